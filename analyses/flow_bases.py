"""The figure and the tables of docs/flow.md: how bases move points, and what solvers cost.

    python analyses/flow_bases.py [--figure docs/figures/flow_trajectories.png] [--out docs/results/flow_bases.json]

All data are simulated, seed 0. The figure has two dimensions. The table has 8 source and 12 target
dimensions: the target is a smooth function of the source plus independent noise of the same
variance, so that no map can explain more than half of the variance.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from analyses.parts.scores import r2
from analyses.parts.script import run_script
from neurobridge.bridge import ridge_map
from neurobridge.figures.styles import PALETTE
from neurobridge.flow import BASES, SOLVERS, ConditionalFlow, OffSupportWarning, Training, integrate
from neurobridge.maps.kernel import kernel_map
from neurobridge.store.atomic import write_json

N_TEST = 1000
COLOURS = {
    "affine": PALETTE["ridge"],
    "pad": PALETTE["pairs"],
    "noise": PALETTE["keypoints"],
    "map": PALETTE["fused-flow"],
}


class Rows:
    """Plan of labelled pairs alone: row i goes with row i."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.anchors = np.arange(n), np.arange(n)

    def sample(self, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs evenly."""
        i = rng.integers(0, self.n, size)
        return i, i


def arc(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a wide cloud on the left, and a bent one on the right that it maps to."""
    X = rng.normal(size=(n, 2))
    angle = 1.1 * X[:, 0]
    radius = 2.0 + 0.35 * X[:, 1]
    return X, np.c_[6 + radius * np.sin(angle), radius * np.cos(angle)] + 0.08 * rng.normal(size=(n, 2))


def trajectories(flow: ConditionalFlow, X: np.ndarray, n_times: int = 40) -> np.ndarray:
    """Return the states along the path of each point, shape (n_times + 1, n_points, 2).

    They are in the units of the space that each is drawn in.
    """
    Z = flow.source_scale_.forward(X)
    trained = flow.forward_
    state = torch.as_tensor(trained.start(Z, seed=flow.seed), dtype=torch.float32)
    field = trained.at(torch.as_tensor(Z, dtype=torch.float32) if trained.n_condition else None)
    states = [state]
    with torch.inference_mode():
        for k in range(n_times):
            step = integrate(field, states[-1], t_start=k / n_times, t_end=(k + 1) / n_times, method="rk4", n_steps=1)
            states.append(step.x)
    path = torch.stack(states).double().numpy()
    if trained.base != "pad":
        return flow.target_scale_.backward(path)
    # A padded path goes from the source's units to the target's: its units are blended along the way.
    t = np.linspace(0, 1, n_times + 1)[:, None, None]
    return (1 - t) * flow.source_scale_.backward(path) + t * flow.target_scale_.backward(path)


def hidden(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw sources (n, 8), and targets (n, 12) of which the source explains about half."""
    weights = np.random.default_rng(99).normal(size=(8, 12)) / np.sqrt(8)
    X = rng.normal(size=(n, 8))
    explained = np.sin(1.5 * X @ weights) + 0.4 * X @ weights
    return X, explained + explained.std() * rng.normal(size=(n, 12))


def scores(moved: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return R^2, and the variance of the moved points over that of the true ones."""
    return {"r2": r2(moved, truth), "variance": float(moved.var(axis=0).sum() / truth.var(axis=0).sum())}


def table() -> dict[str, dict[str, dict[str, float]]]:
    """Score each base at each number of pairs by R^2, variance and share off the support."""
    X_new, Y_new = hidden(N_TEST, np.random.default_rng(1))
    out: dict[str, dict[str, dict[str, float]]] = {}
    for n_pairs in (20, 100, 500, 5000):
        X, Y = hidden(n_pairs, np.random.default_rng(0))
        curved = kernel_map(X, Y)
        rows = {"linear": scores(ridge_map(X, Y)(X_new), Y_new), "kernel": scores(curved(X_new), Y_new)}
        moved = ConditionalFlow(curved, seed=0).fit(X, Y, Rows(n_pairs)).transport(X_new)
        rows["map"] = scores(moved, Y_new)
        for base, share in [*((base, 0.0) for base in BASES), ("affine", 0.2), ("noise", 0.2)]:
            name = f"{base}, validation={share:g}" if share else base
            flow = ConditionalFlow(base, training=Training(validation=share), seed=0).fit(X, Y, Rows(n_pairs))
            moved = flow.transport(X_new)
            rows[name] = scores(moved, Y_new) | {"off_support": float(flow.off_support(moved).mean())}
            if base == "noise":
                rows[f"{name}, mean of 32"] = scores(flow.spread(X_new, n_samples=32).mean, Y_new)
        out[str(n_pairs)] = rows
        print(n_pairs, json.dumps(rows))
    return out


def solver_errors(flow: ConditionalFlow, X: np.ndarray) -> dict[str, list[tuple[int, float]]]:
    """Return evaluations and relative errors of every solver, against an adaptive one at 1e-7."""
    flow.set_params(ode__rtol=1e-7, ode__atol=1e-7)
    reference = flow.transport(X, method="dopri5")
    scale = np.linalg.norm(reference - reference.mean(axis=0))
    out: dict[str, list[tuple[int, float]]] = {}
    for method in SOLVERS:
        out[method] = []
        efforts: Any = (1e-3, 1e-4, 1e-5, 1e-6) if method == "dopri5" else (1, 2, 4, 8, 16, 32)
        for effort in efforts:
            if method == "dopri5":
                flow.set_params(ode__rtol=effort, ode__atol=effort)
            else:
                flow.set_params(ode__n_steps=effort)
            results = flow.transport(X, method=method)
            out[method].append((flow.n_evaluations_, float(np.linalg.norm(results - reference) / scale)))
    return out


def draw(figure_file: Path) -> dict[str, list[tuple[int, float]]]:
    """Draw the paths under each base and the errors of the solvers, and return the errors."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rng = np.random.default_rng(0)
    X, Y = arc(500, rng)
    X_new, _ = arc(60, rng)
    figure, axes = plt.subplots(1, 5, figsize=(17, 3.7), layout="constrained")
    for axis, base in zip(axes, COLOURS, strict=False):
        kind: Any = ridge_map(X, Y) if base == "map" else base
        flow = ConditionalFlow(kind, seed=0).fit(X, Y, Rows(500))
        path = trajectories(flow, X_new)
        axis.scatter(*X.T, s=3, color="#bbbbbb", label="source")
        axis.scatter(*Y.T, s=3, color="#555555", label="target")
        axis.plot(*path.transpose(2, 0, 1), color=COLOURS[base], lw=0.6, alpha=0.8)
        axis.scatter(*path[0].T, s=7, facecolor="white", edgecolor=COLOURS[base], lw=0.7, zorder=3, label="start")
        axis.scatter(*path[-1].T, s=7, color=COLOURS[base], zorder=3, label="end")
        axis.set(
            title="base: a map (ridge)" if base == "map" else f'base="{base}"',
            xlabel="dimension 1",
            ylabel="dimension 2",
        )
        if base == "affine":
            errors = solver_errors(flow, X_new)
    for (method, points), (colour, line) in zip(
        errors.items(),
        zip((PALETTE[k] for k in ("pairs", "bridge", "ridge", "pls")), ("o-", "s-.", "^:", "v--"), strict=True),
        strict=True,
    ):
        axes[4].loglog(*zip(*points, strict=True), line, color=colour, ms=4, lw=1, label=method)
    axes[4].axhline(1e-3, color="#999999", lw=0.8, ls=":")
    axes[4].set(
        title="solvers (affine)", xlabel="evaluations of the velocity", ylabel="relative error of the end point"
    )
    axes[4].legend(
        fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), title="solver", title_fontsize=7
    )
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    figure.suptitle("500 simulated pairs, 60 new points, seed 0; dotted: 0.001", fontsize=8)
    figure_file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(figure_file, dpi=130)
    return errors


def main(
    figure_file: Annotated[Path, typer.Option("--figure")] = Path("docs/figures/flow_trajectories.png"),
    out_file: Annotated[Path, typer.Option("--out")] = Path("docs/results/flow_bases.json"),
) -> None:
    # The table has a column for the share off the support.
    warnings.simplefilter("ignore", OffSupportWarning)
    errors = draw(figure_file)
    result = {"bases": table(), "solvers": errors, "n_test": N_TEST, "seed": 0}
    write_json(result, out_file)


if __name__ == "__main__":
    run_script(main, __doc__)
