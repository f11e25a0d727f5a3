"""
Which image was shown? Single trials of V4
==========================================

The same question, which of 40 photographs was on the screen, with trials of a photograph on both sides
of every fold; and a question about groups of photographs, for which all trials of a photograph have to
stay together. What happens when they do not?

The responses are real: single trials of 50 macaque V4 sites to natural images (``cowley2023-v4-210325``,
Cowley et al. 2023). The groups are invented: a coin was flipped for each image, so nothing can be read
of them from images that were not trained on.
"""

# %%
# Forty images with most repetitions, and a label without meaning for each.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

recordings: Any = nb.load("cowley2023-v4-210325").recordings
ids, counts = np.unique(recordings["stimulus_id"].values, return_counts=True)
chosen = ids[np.argsort(-counts, kind="stable")[:40]]
trials = nb.select(recordings, stimulus_id=chosen)
coin = dict(zip(chosen, np.random.default_rng(0).permutation(np.array(["heads", "tails"] * 20)), strict=True))
trials = trials.assign_coords(coin=("presentation", [coin[image] for image in trials["stimulus_id"].values]))

# %%
# Which image: presentations are independent, as ``group=None`` says.

identity = nb.decode(trials, "stimulus_id", group=None, n_permutations=200)

# %%
# Which side of the coin: with trials of an image on both sides, and with whole images held out.

apart = nb.decode(trials, "coin", group=None, n_permutations=200)
whole = nb.decode(trials, "coin", n_permutations=200)
rows = []
for name, score in (
    ("image, trials apart", identity),
    ("coin, trials apart (wrong)", apart),
    ("coin, images whole", whole),
):
    summary = nb.aggregate(score)
    rows.append({"name": name, "accuracy": score["raw"].values, "chance": summary["null_95"]})
    print(f"{name}: {summary['raw']:.3f}, chance {summary['null_mean']:.3f}, p {summary['p_value']:.3f}, "
          f"{score.attrs['n_trials']} trials, {score.attrs['splits']}")  # fmt: skip

# %%
# A coin cannot be read from a brain. Trials that share an image make it seem so, at p = .005: the readout
# knows the images, and folds and null both take its trials for independent evidence.

fig, ax = plt.subplots(figsize=(6.4, 2.8), layout="constrained")
nb.figures.accuracies(rows, ax=ax, label="label", title="Real macaque V4, single trials, 50 sites, 40 images, seed 0")
plt.show()
