"""
Decoding across spaces and over time
====================================

This page is for someone who asks what can be read from a population. At its end you will be able to
decode a label beside its chance level, let a readout that was trained on a model read the recordings and
the other way round, and follow a code in time.

Parts 1 and 2: the responses are real (168 sites of macaque IT, ``majajhong2015-it-v6``, averaged over trials); the
model side is the table of generative latents of the images. The data of part 3 are simulated, so that the
true onset is known.
"""

# %%
# 1. A label and its chance level
# -------------------------------
# Which of 16 objects was shown? Whole images are held out.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

experiment: Any = nb.load("majajhong2015-it-v6")
recordings, latents = experiment.recordings, experiment.latents
score = nb.decode(recordings, "object_name", n_permutations=200)
summary = nb.aggregate(score)
print(f"accuracy {summary['raw']:.3f}, chance {summary['null_mean']:.3f}, p {summary['p_value']:.3f}")

# %%
# 2. A readout of one space reads the other
# -----------------------------------------
# 128 images are held out. An alignment over 64 pairs carries each space into the other. The readouts are
# trained in their own spaces and are not changed, so that the alignment alone decides how well they read the
# other space.

fold = nb.evaluate.draw_curve_fold(latents, recordings, 64, seed=0)
aligner = nb.aligners.ProcrustesAligner().fit(fold.source_train, fold.target_train, fold.pairs)
across = nb.decoding.cross_space_decode(
    aligner,
    (fold.source_train, fold.target_train),
    (fold.source_test, fold.target_test),
    "object_name",
    n_permutations=200,
)
rows = [
    {
        "name": str(reading).replace("source", "latents").replace("target", "IT"),
        "accuracy": np.atleast_1d(across["raw"].sel(reading=reading).values),
        "chance": float(across["null"].sel(reading=reading).mean()),
    }
    for reading in across["reading"].values
]
fig, ax = plt.subplots(figsize=(7, 2.8), layout="constrained")
nb.figures.accuracies(rows, ax=ax, label="16 objects", title="real macaque IT, 64 pairs, 128 held-out images, seed 0")
plt.show()

# %%
# 3. In time
# ----------
# These trials are simulated: categories differ from 100 ms on, and by another code from 240 ms on. A readout is
# trained in every bin, and every bin is read with every readout. Where a readout of one time is at chance at
# another time, the code has changed.

rng = np.random.default_rng(0)
start, stimulus = np.arange(0, 400, 20), np.tile(np.arange(40), 4)
early, late = rng.normal(size=(2, 2, 30))
gain = [(start >= 100) & (start < 240), start >= 240]
signal = sum(code[stimulus % 2][:, :, None] * on[None, None] for code, on in zip((early, late), gain, strict=True))
trials = nb.make_assembly(
    signal + 2.5 * rng.normal(size=(160, 30, 20)),
    presentation={"stimulus_id": stimulus, "category_name": np.array(["animal", "tool"])[stimulus % 2]},
    neuroid={"neuroid_id": range(30)},
    time_bin={"time_bin_start": start, "time_bin_end": start + 20},
)
score = nb.decode(trials, "category_name", by="time_bin", n_permutations=200, progress=False)
course = nb.evaluate.time_course(score)
print(f"onset {float(course['onset']):.0f} ms (true: 110, the middle of the first bin with a signal), "
      f"peak {float(course['peak_value']):.2f}")  # fmt: skip
matrix = nb.decoding.generalise_time(trials, "category_name", n_permutations=100, progress=False)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
nb.figures.time_courses({"decoding": score}, ax=axes[0], title="simulated, 40 stimuli, 4 trials each, 30 sites")
nb.figures.time_generalisation(matrix, ax=axes[1])
plt.show()

# %%
# What next
# ---------
# - Single trials, confusions and behaviour: `decoding <../decoding.html>`_.
# - An onset is a description of a cluster, not a tested time: see the docstring of ``nb.evaluate.time_course``.
