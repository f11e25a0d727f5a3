"""
Retrieval of images by captions
===============================

Images and captions were seen by two networks that know nothing of each other: CLIP's image encoder
and MiniLM, which has read text alone. A hundred pairs are known. How often is the right image
among the ten nearest to a caption that has no known partner?

The data are real: 1,000 Flickr8k photographs and one caption each (``clip-flickr8k``). 200 pairs
are held out.
"""

# %%
# Both spaces, and an alignment over 100 of the other 800 pairs.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

flickr: Any = nb.load("clip-flickr8k")
images = flickr.activations
captions = nb.features.embed_text(flickr.stimuli[["stimulus_id", "caption"]])
order = np.random.default_rng(0).permutation(images.sizes["presentation"])
held_out, known = np.sort(order[:200]), np.sort(order[200:])
aligner = nb.aligners.BASELINES["procrustes"]()
aligner.fit(captions.isel(presentation=known), images.isel(presentation=known), pairs=100)
moved = aligner.transform(captions.isel(presentation=held_out))
searched = images.isel(presentation=held_out)

# %%
# R@k, the median rank and pairwise identification, with chance, null and intervals. The correction
# for hubs is reported beside the plain numbers: it looks at all 200 queries at once.

scores = {
    "cosine": nb.retrieve(moved, searched, seed=0),
    "cosine, hub-corrected (CSLS)": nb.retrieve(moved, searched, hub_correction="csls", seed=0),
}
for name, score in scores.items():
    forward = score.sel(direction="forward")
    print(name)
    print(forward[["raw", "raw_low", "raw_high", "chance", "p_value"]].to_dataframe().round(3).to_string())

# %%
# Every rank counts, not only the first ten: the share of captions whose image has a rank of at most k.

fig, ax = plt.subplots(figsize=(7.4, 3.8), layout="constrained")
n = searched.sizes["presentation"]
k = np.arange(1, n + 1)
colours = [nb.figures.PALETTE[family] for family in ("ridge", "fused")]
for (name, score), color, line in zip(scores.items(), colours, ("-", "--"), strict=True):
    reached = (score["forward_rank"].values[:, None] <= k).mean(axis=0)
    ax.plot(k, reached, color=color, linestyle=line, label=name)
    tops = score.sel(direction="forward", measure=["R@1", "R@5", "R@10"])
    low, high = (tops["raw"] - tops["raw_low"]).values, (tops["raw_high"] - tops["raw"]).values
    ax.errorbar([1, 5, 10], tops["raw"].values, yerr=[low, high], fmt="o", color=color, capsize=2, markersize=4)
ax.plot(k, k / n, label="chance, k / 200", **nb.figures.CHANCE)
ax.set_xscale("log")
ax.set_xlabel("k (rank of the image, of 200)")
ax.set_ylabel("R@k (share of 200 captions)")
ax.set_title("Captions find their images: Procrustes over 100 known pairs\nreal Flickr8k, held out, bars: 95 %, seed 0",
             fontsize="medium")  # fmt: skip
nb.figures.legend_beside(ax)
plt.show()
