"""
Aligning without any pair, and when not to believe it
=====================================================

This page is for someone who has two recordings and no stimulus known in both. At its end you will be able
to ask whether geometry alone aligns them, to read the evidence for and against the answer, and to know
which clouds cannot be aligned this way at all.

Any two clouds have a best match. So the question is not which match is best, but whether to believe it.
"""

# %%
# 1. A case that works
# --------------------
# Real judgements of similarity: 1,854 objects, placed in two spaces of meanings, one fitted to judgements
# of women and one to those of men (``things-similarity``). The rows of the second group are shuffled, and
# the order is hidden from the method.

import warnings
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

rng = np.random.default_rng(0)


def try_alignment(X: np.ndarray, Y: np.ndarray) -> Any:
    """Align without a pair, and keep the warnings for later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nb.bridge.UntrustedAlignmentWarning)
        return nb.bridge.align_unpaired(X, Y, n_restarts=3, n_null=2, seed=0)


def right_anchors(start: Any, truth: np.ndarray) -> float:
    """Return the share of proposed anchors that are true partners."""
    i, j = start.anchors
    return float((truth[i] == j).mean())


women: Any = nb.load("things-similarity", group="female")
men: Any = nb.load("things-similarity", group="male")
X, Y = (group.activations.values for group in (women, men))
order = rng.permutation(len(Y))
things = try_alignment(X, Y[order])
print(things.trust)
print(f"{len(things.anchors[0])} anchors proposed, {right_anchors(things, np.argsort(order)):.2f} of them right; "
      f"chance {1 / len(Y):.4f}")  # fmt: skip

# %%
# 2. Read the evidence
# --------------------
# The alignment is found several times, by *restarts* on different four fifths of the points. A neighbourhood is the
# nearest 5 % of the points. An alignment is called trustworthy if all four conditions hold; none uses the truth:
#
# 1. *stability*: two restarts send a point to the same neighbourhood, at least half way from chance to always.
# 2. *cycle*: a point that is sent forward by one restart and back by another returns to its neighbourhood, at least
#    half way from chance to always.
# 3. *distortion*: distances inside the two spaces agree better than with *surrogates*, targets whose parts were
#    rearranged: the median is at most 0.75 of theirs, and below all of them.
# 4. *mutual neighbours*: more points are each other's nearest neighbour than with any surrogate.
#
# The verdict promises neighbourhoods, not partners: ``trust.expected`` predicts the share of points, beyond chance,
# that arrive in the neighbourhood of their true partner. ``trust.reasons`` lists the conditions that failed.
#
# 3. A case that is refused, rightly
# ----------------------------------
# Real responses: 168 sites of macaque IT to 640 images (``majajhong2015-it-v6``), dealt into two sets of
# sites. With 10 pairs the fused bridge predicts one set from the other at a median r of .58 (`benchmarks
# <../benchmarks.html>`_). Without a pair, geometry finds more partners than chance and too few to use.

recordings: Any = nb.load("majajhong2015-it-v6").recordings
sites = rng.permutation(168)
first, second = (recordings.values[:, part] for part in (sites[:84], sites[84:]))
first, second = ((points - points.mean(axis=0)) / points.std(axis=0) for points in (first, second))
order = rng.permutation(640)
halves = try_alignment(first, second[order])
print(halves.trust)
print(f"{right_anchors(halves, np.argsort(order)):.2f} of the anchors are right; chance {1 / 640:.4f}")
print("reasons:", *halves.trust.reasons, sep="\n  ")

# %%
# 4. Two more: nothing in common, and too much doubt
# --------------------------------------------------
# First the same IT sites beside noise of their covariance, which has the same shape and nothing in common. Then a
# SIMULATED round cloud beside a turned, noisy copy: nearly all anchors are right, but other restarts disagree and the
# match is hardly better than one with a rearranged target, so that it is not trusted. The verdict errs towards doubt.

noise = rng.multivariate_normal(np.zeros(84), np.cov(second.T), size=640)
nothing = try_alignment(first, noise / noise.std(axis=0))
print(nothing.trust)
ball = rng.normal(size=(400, 8))
turned = ball @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 0.3 * rng.normal(size=(400, 8))
order = rng.permutation(400)
round_cloud = try_alignment(ball, turned[order])
print(round_cloud.trust)
print("reasons:", *round_cloud.trust.reasons, sep="\n  ")
print(f"{right_anchors(round_cloud, np.argsort(order)):.2f} of the anchors of the round cloud are right")

# %%
# 5. Side by side
# ---------------

cases = {
    "objects,\ntwo groups": things,
    "IT, two sets\nof sites": halves,
    "IT, noise of its\ncovariance": nothing,
    "round cloud\n(simulated)": round_cloud,
}


def beyond_chance(name: str) -> list[float]:
    """Return a measure of trust of every case, 0 at its chance level."""
    chance = f"{name}_chance"
    return [
        (getattr(s.trust, name) - getattr(s.trust, chance)) / (1 - getattr(s.trust, chance)) for s in cases.values()
    ]


fig, axes = plt.subplots(1, 2, figsize=(14, 3.4), layout="constrained")
place = np.arange(len(cases))
colours = nb.figures.PALETTE
for k, (name, family) in enumerate((("stability", "ridge"), ("cycle", "pairs"))):
    axes[0].bar(place + 0.35 * (k - 0.5), beyond_chance(name), 0.33, color=colours[family], label=name)
axes[0].axhline(0.5, color="black", linestyle=":", label="least to be trusted")
axes[0].set_ylabel("share of probe points, beyond chance")
for k, start in enumerate(cases.values()):
    axes[1].plot([k - 0.1] * len(start.trust.distortions), start.trust.distortions, "o", color=colours["fused"],
                 label="distortion of the restarts" if k == 0 else None)  # fmt: skip
    axes[1].plot([k + 0.1] * len(start.trust.null_distortions), start.trust.null_distortions, "s", color="0.5",
                 label="towards rearranged targets" if k == 0 else None)  # fmt: skip
axes[1].set_ylabel("distortion of distances\n(Gromov-Wasserstein, 0: isometry)")
for ax in axes:
    ax.set_xticks(place, list(cases))
    ax.tick_params(axis="x", labelsize="small")
    nb.figures.legend_beside(ax)
plt.show()

# %%
# What to do
# ----------
# - If the alignment is not trusted, do not use it. Look for a few known pairs instead
#   (``nb.BridgeAligner(seed=0).fit(X, Y, pairs)``): from one third of the IT sites to another, ridge regression on
#   five pairs already predicts at a median r of .35 (`the aligner <../aligner.html>`_).
# - If it is trusted, pass the anchors on: ``nb.bridge.bridge_cost(X, Y, start.anchors,
#   confidence=start.confidence)``.
# - How often the verdict errs: `diagnostics <../diagnostics.html>`_. What was measured on real pairs of
#   spaces: `findings <../findings.html>`_.
