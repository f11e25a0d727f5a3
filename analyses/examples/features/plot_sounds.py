"""
Spoken digits as a space
========================

A sound becomes a point: the log-mel spectrogram, averaged in equal parts of the word's own duration, so
that slow and fast speakers have the same units. The recordings are real (``fsdd``, 300 recordings of six
speakers).
"""

# %%
# Spectrograms of the ten digits of one speaker.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

sounds: Any = nb.load("fsdd", part="test").sounds
mel = nb.features.log_mel(sounds, n_parts=16)
speakers, digits = mel["speaker"].values, mel["digit"].values.astype(int)
fig, axes = plt.subplots(2, 5, figsize=(9, 3.8), layout="constrained", sharex=True, sharey=True)
for digit, ax in enumerate(axes.flat):
    first = np.flatnonzero((digits == digit) & (speakers == speakers[0]))[0]
    ax.imshow(mel.values[first].reshape(-1, 16), origin="lower", aspect="auto", cmap="magma")
    ax.set_title(str(digit), fontsize="medium")
for ax in axes[-1]:
    ax.set_xlabel("part of the word")
for ax in axes[:, 0]:
    ax.set_ylabel("mel band")
plt.show()

# %%
# Is the space about digits or about speakers? Both readouts, with whole speakers held out for digits.

digit_score = nb.decode(mel, "category_name", group="speaker", n_permutations=100)
speaker_score = nb.decode(mel, "speaker", n_permutations=100)
for name, score in (("digit, of a new speaker", digit_score), ("speaker", speaker_score)):
    summary = nb.aggregate(score)
    print(f"{name}: {summary['raw']:.3f}, chance {summary['null_mean']:.3f}")
