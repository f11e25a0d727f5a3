"""
When can a word be told? Courses, clusters and codes in time
============================================================

Ten digits are spoken by six people. From which part of a word on can the digit be read from its sound,
when the speaker was never trained on? And is a readout of the beginning good for the end?

The recordings are real (``fsdd``, the 300 of its test part). The "sites" are 40 bands of their spectrum
and the time bins sixteenths of each word's duration: this shows the analysis of responses in time, and
no brain. The last figure repeats it on SIMULATED neurons whose onset is known.
"""

# %%
# Band energies in time: dims (presentation, neuroid, time_bin).

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

N_PARTS = 16
sounds: Any = nb.load("fsdd", part="test").sounds
mel = nb.features.log_mel(sounds, n_parts=N_PARTS)
words = nb.make_assembly(
    mel.values.reshape(len(mel), -1, N_PARTS),
    presentation={name: mel[name].values for name in ("stimulus_id", "digit", "speaker")},
    neuroid={"neuroid_id": range(mel.sizes["neuroid"] // N_PARTS)},
    time_bin={
        "time_bin_start": 100 / N_PARTS * np.arange(N_PARTS),
        "time_bin_end": 100 / N_PARTS * np.arange(1, N_PARTS + 1),
    },
)

# %%
# All recordings of a speaker stay on one side of every fold. The null shuffles digits within speakers.

digit = nb.decode(words, "digit", group="speaker", by="time_bin", n_permutations=500)
speaker = nb.decode(words, "speaker", by="time_bin", n_permutations=500)
course = nb.evaluate.time_course(digit)
print(digit.attrs["splits"])
print(
    f"digit: onset {float(course['onset']):.0f} %, peak {float(course['peak_value']):.2f} at {float(course['peak']):.0f} %"
)
across = nb.decoding.generalise_time(words, "digit", group="speaker", n_permutations=200)

# %%
# Simulated neurons: categories differ from 100 ms on, and by another code from 250 ms on.

rng = np.random.default_rng(0)
start, stimulus = np.arange(0, 400, 20), np.tile(np.arange(48), 5)
early, late = rng.normal(size=(2, 4, 30))
gain = [(start >= 100) & (start < 250), start >= 250]
signal = early[stimulus % 4][:, :, None] * gain[0] + late[stimulus % 4][:, :, None] * gain[1]
trials = nb.make_assembly(
    signal + 2 * rng.normal(size=(240, 30, 20)) + rng.normal(size=(48, 30))[stimulus][:, :, None],
    presentation={"stimulus_id": stimulus, "object": stimulus % 4},
    neuroid={"neuroid_id": range(30)},
    time_bin={"time_bin_start": start, "time_bin_end": start + 20},
)
simulated = nb.decoding.generalise_time(trials, "object", n_permutations=200)
known = nb.evaluate.time_course(nb.decode(trials, "object", by="time_bin", n_permutations=500))
print(
    f"simulated: onset found at {float(known['onset']):.0f} ms; the first bin with an effect has its middle at 110 ms"
)

# %%
# Digit and speaker can be told from the whole word, with bars under significant clusters; readouts of
# the digit do not carry over to distant parts of the word. The simulated code changes at 250 ms.

fig, axes = plt.subplots(1, 3, figsize=(12.5, 3.6), layout="constrained")
unit = "% of the word"
nb.figures.time_courses(
    {"digit, speakers held out": digit, "speaker": speaker}, ax=axes[0], unit=unit, ylabel="accuracy (fraction correct)",
    title="Real sounds: 300 spoken digits, seed 0",
)  # fmt: skip
nb.figures.time_generalisation(across, ax=axes[1], unit=unit, title="Real sounds: digit, speakers held out")
nb.figures.time_generalisation(simulated, ax=axes[2], title="SIMULATED: 48 stimuli x 5 trials, 30 neurons")
plt.show()
