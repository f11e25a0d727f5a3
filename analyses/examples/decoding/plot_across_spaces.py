"""
A readout of one space reads the other
======================================

A classifier was trained on a model's space. Can it name what a monkey's IT sees, through an alignment
that knows few pairs? And how does that depend on their number?

The responses are real (168 sites of macaque IT, ``majajhong2015-it-v6``); the model side is the table of
generative latents of the images. 128 images are held out in every draw; three draws (seeds 0 to 2).
"""

# %%
# IT is carried into the space of the latents, where the readout was trained; and read by a readout of its
# own, for comparison.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

experiment: Any = nb.load("majajhong2015-it-v6")
recordings, latents = experiment.recordings, experiment.latents
counts = (16, 32, 64, 128)
label = "object_name"
accuracy: dict[str, list[list[float]]] = {"latents to IT": [], "IT to latents": [], "IT, own readout": []}
for n in counts:
    draws: dict[str, list[float]] = {name: [] for name in accuracy}
    for seed in range(3):
        fold = nb.evaluate.draw_curve_fold(latents, recordings, n, seed=seed)
        aligner = nb.aligners.ProcrustesAligner().fit(fold.source_train, fold.target_train, fold.pairs)
        score = nb.decoding.cross_space_decode(
            aligner,
            (fold.source_train, fold.target_train),
            (fold.source_test, fold.target_test),
            label,
            n_permutations=0,
        )
        for name, reading in zip(accuracy, ("source to target", "target to source", "target"), strict=True):
            draws[name].append(float(score["raw"].sel(reading=reading).mean()))
    for name, values in draws.items():
        accuracy[name].append(values)

# %%
# Sixteen objects, so that chance is one in sixteen. The readout of IT reads latents nearly perfectly: it is
# the noise of IT that limits the other direction, as it limits IT's own readout.

fig, ax = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
colours = [nb.figures.PALETTE[family] for family in ("ridge", "fused", "pls")]
for (name, by_count), color, line in zip(accuracy.items(), colours, ("-", "-.", ":"), strict=True):
    mean = np.mean(by_count, axis=1)
    ax.plot(counts, mean, line, color=color, label=name)
    ax.fill_between(counts, np.min(by_count, axis=1), np.max(by_count, axis=1), color=color, alpha=0.15)
ax.axhline(1 / 16, label="chance, 1 / 16", **nb.figures.CHANCE)
ax.set_xscale("log", base=2)
ax.set_xticks(counts, [str(n) for n in counts])
ax.set_xlabel("paired images (count)")
ax.set_ylabel("accuracy, 16 objects, 128 held-out images")
ax.set_title("real macaque IT, Procrustes, seeds 0 to 2 (band: range)", fontsize="medium")
nb.figures.legend_beside(ax)
plt.show()
