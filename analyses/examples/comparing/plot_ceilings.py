"""
Noise, and the ceilings that it sets
====================================

What could a perfect model reach with these recordings? The answer depends on the number of trials, and on
what is scored: the responses of single sites, their dissimilarities, or a label that is read from them.

The recordings are real: single trials of 50 V4 sites to 640 photographs, six to ten of each
(``cowley2023-v4-210325``), and the dissimilarities of 92 images in IT of four people
(``kriegeskorte2008``).
"""

# %%
# Reliability of every site, from few trials and from all. Stimuli have unequal numbers of trials; Brain-Score
# halves by the number of the repetition.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

v4: Any = nb.load("cowley2023-v4-210325")
trials = v4.recordings
repetition = trials["repetition"].values
few = {
    n: nb.internal_consistency(
        trials.isel(presentation=np.isin(repetition, np.unique(repetition)[:n])), n_bootstrap=100
    )
    for n in (2, 4, 6)
}
ceiling = nb.internal_consistency(trials)
theirs = nb.internal_consistency(trials, halves="repetition", seed=1, n_bootstrap=0)
print({n: round(float(score["median"]), 3) for n, score in few.items()}, "all:", round(float(ceiling["median"]), 3),
      "halves of Brain-Score:", round(float(theirs["median"]), 3))  # fmt: skip

# %%
# A Gabor model, scored with the noise and with the noise taken out of the correlation.

model = nb.extract(nb.features.GaborEnergy(), v4.images, "v1")
averaged = nb.average_repetitions(trials)
scores = {
    rule: nb.predictivity(model, averaged, "ridge", ceiling=ceiling["ceiling"], normalization=rule, n_permutations=0)
    for rule in ("explained_variance", "noise_corrected")
}
for rule, score in scores.items():
    print(rule, round(nb.aggregate(score, n_bootstrap=0)["normalized"], 3))

# %%
# The ceiling of an RDM, and that of decoding: which of two halves of the photographs by their mean brightness.

geometry = nb.similarity.rdm_consistency(trials, distance="sqeuclidean", comparator="pearson")
bright = v4.images.mean(("row", "column", "channel")).to_series()
half = dict(zip(v4.images["stimulus_id"].values, np.where(bright > bright.median(), "bright", "dark"), strict=True))
labelled = trials.assign_coords(half=("presentation", [half[name] for name in trials["stimulus_id"].values]))
decoding = nb.decoding.decoding_ceiling(labelled, "half", readout="ridge", n_draws=5)
print("RDM:", round(float(geometry["reliability"]), 3), "largest similarity", round(float(geometry["ceiling"]), 3))
print(f"decoding: {float(decoding['raw'].mean()):.3f} on averages, without noise {float(decoding['ceiling']):.3f} "
      f"[{float(decoding['ceiling_low']):.3f}, {float(decoding['ceiling_high']):.3f}]")  # fmt: skip

# %%
# What another brain reaches: the dissimilarities of each person, compared with the mean of the others (the lower
# bound of the ceiling, one person left out in turn) and of all (the upper one).

kriegeskorte: Any = nb.load("kriegeskorte2008")
rdms = kriegeskorte.rdms
of_people = rdms[(rdms["species"].values == "human") & (rdms["session"].values > 0)]
subject = of_people["subject"].values
people = np.stack([of_people[subject == name].mean("rdm").values for name in np.unique(subject)])
rows, columns = np.triu_indices(92, k=1)
lower, upper = nb.similarity.rdm_noise_ceiling(people[:, rows, columns], comparator="spearman")
print(f"RDMs of people: each with the others {lower:.3f}, with all {upper:.3f}")

# %%
# More trials raise the reliability, here a little less than Spearman and Brown predict from two. No ceiling is a
# bound: each is an estimate with an interval, under assumptions of its own.

fig, axes = plt.subplots(1, 3, figsize=(16, 3.6), layout="constrained")
reliabilities = [*few.values(), ceiling]
middle = np.array([float(score["median"]) for score in reliabilities])
low, high = (np.array([float(score[f"median_{end}"]) for score in reliabilities]) for end in ("low", "high"))
counts = [*few, len(trials) / 640]
axes[0].errorbar(counts, middle, yerr=[middle - low, high - middle], fmt="o", capsize=2, color=nb.figures.PALETTE["ridge"],
                 label="split halves")  # fmt: skip
k = np.linspace(1, 10, 50)
one = middle[0] / (2 - middle[0])
axes[0].plot(k, k * one / (1 + (k - 1) * one), color="0.5", label="predicted from two trials")
axes[0].set_xlabel("trials of each photograph (mean number)")
axes[0].set_ylabel("reliability, median of 50 sites")
axes[0].set_ylim(0, 1)
axes[0].set_title("Real V4: 640 photographs, bars: 95 %, seed 0", fontsize="small")
nb.figures.legend_beside(axes[0])
nb.figures.accuracy_by_trials(decoding, ax=axes[1], title="Real V4: bright or dark, seed 0")
bars = {
    "V4 sites, r": float(np.sqrt(ceiling["median"])),
    "V4 RDM, r": float(geometry["ceiling"]),
    "IT RDM, rho, others": lower,
    "IT RDM, rho, all": upper,
}
axes[2].barh(range(len(bars)), list(bars.values()), color=nb.figures.PALETTE["bridge"], edgecolor="black")
axes[2].set_yticks(range(len(bars)), labels=list(bars))
axes[2].set_xlim(0, 1)
axes[2].set_xlabel("largest similarity in reach")
axes[2].set_title("Real V4 of 640 and IT of 92 images", fontsize="small")
plt.show()
