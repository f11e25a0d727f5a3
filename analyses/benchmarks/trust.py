"""Compare what `Trust` predicts of an alignment without pairs with the truth, on related and on unrelated spaces.

Each problem gives two clouds, rows in unknown order. `align_unpaired` sees no partner. Predicted is ``trust.expected``, the
stability beyond chance; realised is the share of points, beyond chance, whose image has its nearest target among the nearest
5 % of the true partner's neighbours. Unrelated clouds have no partners: for them the verdict alone is recorded.

Settings were chosen on seeds 100 and above; seeds 0 to 4 are reported.

    python analyses/benchmarks/trust.py --mirror DIR [--out results/benchmarks/trust.json] [--seeds 0 --seeds 1]
    python analyses/benchmarks/trust.py --draw docs/results/benchmarks/trust.json
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from scipy.spatial.distance import cdist

from analyses.parts.script import run_script
from neurobridge.bridge import UntrustedAlignmentWarning, align_unpaired
from neurobridge.bridge.unpaired.neighbours import inside_neighbourhood, nearest_rows, neighbourhoods
from neurobridge.bridge.unpaired.trust import beyond_chance
from neurobridge.datasets import load
from neurobridge.features import embed_text
from neurobridge.figures.layout import legend_beside, new_axes
from neurobridge.figures.styles import PALETTE
from neurobridge.store.atomic import write_json
from neurobridge.store.npy import read_npy

THINGS = {
    "groups": ("THINGS_embedding_Group1", "THINGS_embedding_Group2"),
    "female, male": ("female_embeddings", "male_embeddings"),
}


class Problem(NamedTuple):
    """Two clouds; ``partner[i]`` is the row of Y that belongs to row i of X, or None for unrelated clouds."""

    name: str
    X: np.ndarray
    Y: np.ndarray
    partner: np.ndarray | None


class Spaces(NamedTuple):
    """The real spaces, a row a stimulus or object."""

    things: dict[str, tuple[np.ndarray, np.ndarray]]
    v4: np.ndarray
    it: np.ndarray
    text: np.ndarray
    image: np.ndarray
    classes: np.ndarray
    v1: np.ndarray


def read_spaces(mirror: Path) -> Spaces:
    """Read all spaces from the mirror and embed the captions."""
    things = {
        name: tuple(read_npy(mirror / "things-similarity" / f"{group}.npy")[0].astype(float) for group in groups)
        for name, groups in THINGS.items()
    }
    flickr: Any = load("clip-flickr8k", mirror=mirror)
    classes: Any = load("clip-class-text", mirror=mirror)
    # Spike counts (site, image, repetition), the last padded with NaN.
    v4 = np.nanmean(read_npy(mirror / "cowley2023-v4-210325" / "responses_210325.npy"), axis=2).T
    mouse = [read_npy(path) for path in sorted((mirror / "allen-v1").glob("*.npy"))]
    return Spaces(
        things,
        standardised(v4),
        standardised(read_npy(mirror / "majajhong2015-it-v6" / "data_subset.npy").astype(float)),
        np.asarray(embed_text(flickr.stimuli["caption"].tolist()).values, dtype=float),
        np.asarray(flickr.activations.values, dtype=float),
        np.asarray(classes.activations.values, dtype=float),
        standardised(next(array for array in mouse if array.shape == (900, 212)).astype(float)),
    )


def standardised(X: np.ndarray) -> np.ndarray:
    """Standardise each dimension; those that are constant stay zero."""
    return (X - X.mean(axis=0)) / np.where(X.std(axis=0) > 0, X.std(axis=0), 1)


def problems(spaces: Spaces, seed: int, *, n: int) -> Iterator[Problem]:
    """Yield the problems of a seed; ``n`` is the most points of a cloud, but for THINGS with all objects."""
    rng = np.random.default_rng(seed)

    def related(name: str, X: np.ndarray, Y: np.ndarray, size: int = n, noise: float = 0.0) -> Problem:
        rows = rng.permutation(len(X))[:size]
        X, Y = (side[rows] + noise * side.std() * rng.normal(size=side[rows].shape) for side in (X, Y))
        order = rng.permutation(len(rows))
        return Problem(name, X, Y[order], np.argsort(order))

    def unrelated(name: str, X: np.ndarray, Y: np.ndarray) -> Problem:
        drawn = [side[rng.permutation(len(side))[:n]] for side in (X, Y)]
        return Problem(name, drawn[0], drawn[1], None)

    def halves(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        columns = rng.permutation(X.shape[1])
        return X[:, columns[::2]], X[:, columns[1::2]]

    for name, groups in spaces.things.items():
        yield related(f"THINGS {name}, all objects", *groups, size=len(groups[0]))
        yield related(f"THINGS {name}, 100 objects", *groups, size=100)
        for noise in (0.5, 0.75, 1.0, 2.0):
            yield related(f"THINGS {name}, noise {noise:g} (added)", *groups, noise=noise)
    first, second = spaces.things["groups"]
    yield related("V4, two halves of the sites", *halves(spaces.v4))
    yield related("IT, two halves of the sites", *halves(spaces.it))
    yield related("Flickr8k captions, images", spaces.text, spaces.image)
    yield related("CLIP images, two halves of the dimensions", *halves(spaces.image))
    yield related("CLIP class names, two halves of the dimensions", *halves(spaces.classes))
    yield unrelated("THINGS, shuffled features", first, np.column_stack([rng.permutation(c) for c in second.T]))
    yield unrelated("THINGS, Flickr8k images", first, spaces.image)
    yield unrelated("CLIP class names, THINGS", spaces.classes, first)
    yield unrelated("CLIP images, CLIP class names", spaces.image, spaces.classes)
    yield unrelated("V4, IT", spaces.v4, spaces.it)
    yield unrelated("Flickr8k captions, IT", spaces.text, spaces.it)
    left, right = halves(spaces.v1)
    yield unrelated("mouse V1 without signal, other presentations", left[:450], right[450:])
    spectrum = np.exp(-np.arange(20) / 5)
    yield unrelated("two Gaussian clouds (simulated)", *(rng.normal(size=(2, n, 20)) * spectrum))


def solve(problem: Problem, seed: int) -> dict[str, Any]:
    """Align without a pair, and compare with the truth where it is known."""
    X, Y, partner = problem.X, problem.Y, problem.partner
    started = time.process_time()
    with warnings.catch_warnings():
        # The verdict is recorded.
        warnings.simplefilter("ignore", UntrustedAlignmentWarning)
        start = align_unpaired(X, Y, seed=seed)
    record: dict[str, Any] = {
        "problem": problem.name, "seed": seed, "n": len(X), "m": len(Y), "related": partner is not None,
        "seconds": time.process_time() - started, "trust": start.trust.to_dict(), "settled": start.settled,
    }  # fmt: skip
    if partner is not None:
        images = start.map(X)
        distances = cdist(images, Y)
        rank = (distances < distances[np.arange(len(X)), partner][:, None]).sum(axis=1)
        hits = nearest_rows(images, Y)
        value = float(inside_neighbourhood(images, Y, partner).mean())
        chance = float(neighbourhoods(Y)[:, hits].mean())
        i, j = start.anchors
        record |= {
            "realised": beyond_chance(value, chance),
            "top": {str(k): float((rank < k).mean()) for k in (1, 5, 10)},
            "anchors": len(i),
            "anchors_right": float((partner[i] == j).mean()),
        }
    return record


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Draw realised against expected, and the expected share of unrelated spaces below."""
    import matplotlib.pyplot as plt

    ax = new_axes(None, size=(5.4, 4.2))
    colours = {True: PALETTE["fused"], False: PALETTE["ridge"]}
    for trusted, marker in ((True, "o"), (False, "s")):
        for related in (True, False):
            rows = [r for r in records if (r["trust"]["trustworthy"], r["related"]) == (trusted, related)]
            if not rows:
                continue
            name = f"{'trusted' if trusted else 'not trusted'}, {'related' if related else 'unrelated'} ({len(rows)})"
            ax.plot(
                [r["trust"]["expected"] for r in rows],
                [r.get("realised", 0.0) for r in rows],
                marker if related else "x",
                color=colours[trusted],
                markerfacecolor=colours[trusted] if trusted else "none",
                label=name,
            )
    ax.plot([0, 1], [0, 1], ":", color="black", linewidth=0.8, label="expected = realised")
    ax.set_xlabel("expected share, beyond chance (no partner seen)")
    ax.set_ylabel("realised share, beyond chance")
    legend_beside(ax)
    plt.savefig(path, dpi=150, bbox_inches="tight")
    plt.close("all")


def main(
    mirror: Annotated[Path | None, typer.Option("--mirror", help="Folder with the real files.")] = None,
    kept: Annotated[Path | None, typer.Option("--draw", help="Draw kept records into docs/figures/trust.png.")] = None,
    out_file: Annotated[Path, typer.Option("--out")] = Path("results/benchmarks/trust.json"),
    seeds: Annotated[list[int] | None, typer.Option("--seeds", help="Default: 0 to 4.")] = None,
    n: Annotated[int, typer.Option("--n", help="Most points of a cloud, but for THINGS with all objects.")] = 400,
) -> None:
    if kept is not None:
        draw(json.loads(kept.read_text()), Path("docs/figures/trust.png"))
        return
    if mirror is None:
        raise typer.BadParameter("found no --mirror; expected the folder with the real files. Mend: --mirror DIR.")
    spaces = read_spaces(mirror)
    records = []
    for seed in seeds or range(5):
        for problem in problems(spaces, seed, n=n):
            record = solve(problem, seed)
            records.append(record)
            write_json(records, out_file)
            trust = record["trust"]
            print(
                f"seed {seed} {problem.name:48s} {'trusted' if trust['trustworthy'] else '-':7s} expected {trust['expected']:.2f} "
                f"realised {record.get('realised', float('nan')):.2f} top {list(record.get('top', {}).values())} "
                f"cycle {trust['cycle']:.2f} ({trust['cycle_chance']:.2f}) distortion {np.median(trust['distortions']):.3f} "
                f"({min(trust['null_distortions']):.3f}) mutual {np.median(trust['mutual']):.2f} ({max(trust['null_mutual']):.2f}) "
                f"{record['seconds']:.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    run_script(main, __doc__)
