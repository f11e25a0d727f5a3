"""
How many trials does a ceiling need?
====================================

Reliability grows with the number of trials that are averaged. How many are worth their time? The
recordings are SIMULATED, so that the truth is known: 40 sites, 100 stimuli, noise of twice the size of
the signal.
"""

# %%
# The same sites, recorded with 4 to 40 trials of each stimulus.

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

rng = np.random.default_rng(0)
signal = rng.normal(size=(100, 40))
counts = (4, 8, 16, 40)
medians, low, high = [], [], []
for n_trials in counts:
    trials = nb.make_assembly(
        np.tile(signal, (n_trials, 1)) + 2 * rng.normal(size=(100 * n_trials, 40)),
        presentation={"stimulus_id": np.tile(np.arange(100), n_trials), "repetition": np.repeat(range(n_trials), 100)},
        neuroid={"neuroid_id": range(40)},
    )
    score = nb.internal_consistency(trials, n_bootstrap=100)
    medians.append(float(score["median"]))
    low.append(float(score["median"] - score["median_low"]))
    high.append(float(score["median_high"] - score["median"]))

# %%
# The line is the closed form, signal variance over signal variance and noise variance over the number of trials.

fig, ax = plt.subplots(figsize=(7.6, 3.8), layout="constrained")
many = np.arange(2, 41)
ax.plot(many, 1 / (1 + 4 / many), color="black", label="truth, 1 / (1 + 4 / n)")
colour = nb.figures.PALETTE["fused"]
ax.errorbar(counts, medians, yerr=[low, high], fmt="o", color=colour, capsize=3, label="estimated, 95 % interval")
ax.set_xscale("log", base=2)
ax.set_xticks(counts, [str(n) for n in counts])
ax.set_xlabel("trials of each stimulus")
ax.set_ylabel("reliability (median of 40 sites)")
ax.set_title("simulated, 100 stimuli, seed 0", fontsize="medium")
nb.figures.legend_beside(ax)
plt.show()
