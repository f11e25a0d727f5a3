"""
Three animals, and pairs between some of them
=============================================

Three sets of neurons were recorded, and only a part of the stimuli was shown twice: some to "a" and
"b", others to "b" and "c". Can responses of "a" be turned into responses of "c", which share no
stimulus? And what does the third set add where "a" and "c" share a few?

The responses are real: 168 sites of macaque IT, averaged over trials (``majajhong2015-it-v6``), which
are dealt into three sets of 56 sites. The sets play the part of animals, and agree better than animals
would. 200 of the 640 images are held out.
"""

# %%
# The sites in three sets, and pairs of "a" with "b" and of "b" with "c" on images of their own.

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import neurobridge as nb

SEEDS = range(5)
recordings: Any = nb.load("majajhong2015-it-v6").recordings


def deal(seed: int) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Return three sets of sites on the known images, on the held-out ones, and the known ids in random order."""
    rng = np.random.default_rng(seed)
    sites, images = rng.permutation(168), rng.permutation(640)
    sets = {
        name: recordings.isel(neuroid=np.sort(part)) for name, part in zip("abc", np.array_split(sites, 3), strict=True)
    }
    known = {name: part.isel(presentation=images[:440]) for name, part in sets.items()}
    held_out = {name: part.isel(presentation=images[440:]) for name, part in sets.items()}
    return known, held_out, recordings.stimulus_id.values[images[:440]].tolist()


def site_r(predicted: Any, recorded: Any) -> float:
    """Return the median over sites of the correlation over held-out images."""
    return float(nb.correlate(predicted, recorded, n_permutations=0)["raw"].median())


# %%
# No pair of "a" and "c". A ridge map of as many direct pairs is what the chain has to do without.


def chain(seed: int, n: int) -> dict[str, float]:
    known, held_out, ids = deal(seed)
    pairs = {("a", "b"): ids[:n], ("b", "c"): ids[n : 2 * n]}
    r = {}
    for method in ("bridge", "srm", "procrustes"):
        space = nb.aligners.CommonSpace(method=method, seed=seed).fit(known, pairs)
        r[method] = site_r(space.transform(held_out["a"], source="a", target="c"), held_out["c"])
    direct = nb.aligners.RidgeAligner().fit(known["a"], known["c"], ids[-n:])
    return r | {"direct": site_r(direct.transform(held_out["a"]), held_out["c"])}


counts = (10, 25, 50, 100, 200)
chains = {n: [chain(seed, n) for seed in SEEDS] for n in counts}
for n, runs in chains.items():
    print(n, {key: round(float(np.mean([run[key] for run in runs])), 3) for key in runs[0]})

# %%
# A few pairs of "a" and "c" as well, beside 100 of "a" with "b" and 100 of "b" with "c".


def with_direct_pairs(seed: int, n: int) -> dict[str, float]:
    known, held_out, ids = deal(seed)
    pairs = {("a", "b"): ids[:100], ("b", "c"): ids[100:200], ("a", "c"): ids[200 : 200 + n]}
    space = nb.aligners.CommonSpace(seed=seed).fit(known, pairs)
    direct = nb.aligners.RidgeAligner().fit(known["a"], known["c"], pairs["a", "c"])
    return {
        "bridge": site_r(space.transform(held_out["a"], source="a", target="c"), held_out["c"]),
        "direct": site_r(direct.transform(held_out["a"]), held_out["c"]),
    }


few = (5, 10, 25, 50, 100, 200)
triangles = {n: [with_direct_pairs(seed, n) for seed in SEEDS] for n in few}
for n, runs in triangles.items():
    print(n, {key: round(float(np.mean([run[key] for run in runs])), 3) for key in runs[0]})

# %%
# What each set adds to the maps between the other two, and how far ways that should agree lie apart.

known, held_out, ids = deal(0)
pairs = {("a", "b"): ids[:100], ("b", "c"): ids[100:200], ("a", "c"): ids[200:225]}
space = nb.aligners.CommonSpace(seed=0).fit(known, pairs)
print(space.weights_["a", "c"])
print(space.contribution()[["gain", "needed"]].to_dataframe().round(3).to_string())
print(space.cycle_error(held_out)["detour"].mean("source").round(3).to_dataframe().dropna().to_string())

# %%
# The chain stays below direct pairs of the same number, and above both baselines. Beside direct pairs,
# the third set helps while these are few.

names = {
    "direct": "ridge, direct pairs",
    "bridge": "CommonSpace",
    "srm": "shared response",
    "procrustes": "procrustes, generalised",
}
styles = nb.figures.styles_of(names.values())
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8), sharey=True, layout="constrained")
for ax, results in zip(axes, (chains, triangles), strict=True):
    for key, label in names.items():
        if key not in results[next(iter(results))][0]:
            continue
        r = np.array([[run[key] for run in runs] for runs in results.values()])
        ax.errorbar(
            list(results),
            r.mean(axis=1),
            yerr=r.std(axis=1, ddof=1),
            markersize=4,
            capsize=2,
            label=label,
            **styles[label],
        )
    ax.axhline(0, label="chance", **nb.figures.CHANCE)
    ax.set_xscale("log")
    ax.set_xticks(list(results), [str(n) for n in results])
    ax.minorticks_off()
axes[0].set_xlabel("pairs of a-b, and as many of b-c (none of a-c)")
axes[1].set_xlabel("pairs of a-c (beside 100 of a-b, 100 of b-c)")
axes[0].set_ylabel("r of held-out images, median of 56 sites")
axes[0].set_title("No pair in common", fontsize=10)
axes[1].set_title("A few pairs in common", fontsize=10)
nb.figures.legend_beside(axes[0])
fig.suptitle(
    "From sites of set a to sites of set c: real macaque IT, 200 held-out images, 5 seeds, bars: SD of seeds",
    fontsize=9,
)
plt.show()
