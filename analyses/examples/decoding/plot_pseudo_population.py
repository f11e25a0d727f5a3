"""
Sites recorded at different times, and trials that are missing
==============================================================

What could be read from all sites together, when they were not recorded together? And what does joining
their trials at random do to the answer?

The responses are real: macaque IT to 640 images, averaged over trials (``majajhong2015-it-v6``), where
all sites saw all images, so that the answer is known; and single trials of V4
(``cowley2023-v4-210325``). Seven sites of IT are made to lack one image each.
"""

# %%
# Seven of 168 sites without a response to an image: no common image is lost but these seven.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

recordings: Any = nb.load("majajhong2015-it-v6").recordings
rng = np.random.default_rng(0)
values = recordings.values.copy()
values[rng.choice(640, 7, replace=False), rng.choice(168, 7, replace=False)] = np.nan
lacking = recordings.copy(data=values)

# %%
# Trials of one image are joined (the default), or trials of any image of the class. The truth beside them:
# the sites as they were recorded, with as many images held out.

sizes = (8, 16, 32, 64, 128, 168)
options: Any = {"n_sites": sizes, "n_draws": 20, "n_permutations": 20}
within = nb.decoding.decode_pseudo_population(lacking, "category_name", **options)
across = nb.decoding.decode_pseudo_population(lacking, "category_name", within=None, **options)
truth = nb.decode(
    recordings, "category_name", splits="stratified,label=category_name,train_size=0.75", n_permutations=0
)
for name, score in (("images joined with themselves", within), ("any images of the class", across)):
    print(f"{name}: {dict(zip(sizes, score['raw'].mean('draw').values.round(3).tolist(), strict=True))}, "
          f"{score.attrs['n_incomplete']} images incomplete")  # fmt: skip
print(f"recorded together, 168 sites: {float(truth['raw'].mean()):.3f}")

# %%
# Single trials of V4: which of 20 images was shown, from sites as if recorded on different days.

v4: Any = nb.load("cowley2023-v4-210325").recordings
ids, counts = np.unique(v4["stimulus_id"].values, return_counts=True)
trials = nb.select(v4, stimulus_id=ids[np.argsort(-counts, kind="stable")[:20]])
image = nb.decoding.decode_pseudo_population(
    trials, "stimulus_id", group=None, n_sites=(2, 5, 10, 25, 50), n_draws=20, n_permutations=20
)
together = nb.decode(
    trials, "stimulus_id", group=None, splits="stratified,label=stimulus_id,train_size=0.75", n_permutations=0
)
print(
    f"V4, 50 sites, 20 images: {float(image['raw'].mean('draw')[-1]):.3f} joined, {float(together['raw'].mean()):.3f} together"
)

# %%
# Joined within images, the accuracy is that of sites that were recorded together. Joined across images of
# a class, it is far too high: what distinguishes images of a class has become independent noise, which
# averages out over sites. Where sessions share no images, there is no other choice, and the number is of
# a population that does not exist.

fig, axes = plt.subplots(1, 2, figsize=(12, 3.6), layout="constrained")
nb.figures.accuracy_by_sites(
    {"joined within images": within, "joined across images": across}, ax=axes[0],
    title="Real IT (averaged trials): 2 categories, 640 images, seed 0",
)  # fmt: skip
axes[0].axhline(
    float(truth["raw"].mean()), color="black", linestyle=":", linewidth=1, label="168 sites recorded together"
)
nb.figures.legend_beside(axes[0])
nb.figures.accuracy_by_sites({"joined": image}, ax=axes[1], title="Real V4, single trials: which of 20 images, seed 0")
axes[1].axhline(
    float(together["raw"].mean()), color="black", linestyle=":", linewidth=1, label="50 sites recorded together"
)
nb.figures.legend_beside(axes[1])
plt.show()
