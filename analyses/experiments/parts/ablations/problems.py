"""The two settings of the ablations, their imperfections, and scores of single parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from neurobridge.aligners import partner_kernel_map
from neurobridge.assemblies import drop_constant
from neurobridge.bridge import Coupling, bridge_cost, couple, fuse, ridge_map
from neurobridge.bridge.cost.bridge import BridgeCost
from neurobridge.datasets import load
from neurobridge.evaluate.correlation import pearson
from neurobridge.features import embed_text
from neurobridge.flow import ConditionalFlow, Standardiser, Training
from neurobridge.points.arrays import Rows
from neurobridge.study.harness import Record, Run

from ..common import shuffled_accuracies, site_halves
from ..mnist import DIGITS, N_DEVELOPMENT, Captions, balanced, captions, digit_head, digits, head_accuracy, latents

IMAGES, SITES = "MNIST -> captions", "IT -> other IT sites"
ENCODER = "contrastive, short"
N_NULL = 200
#: Candidates of a fit of half a minute; on development digits the whole grid of `fuse` chose the same one.
GRID: dict[str, Any] = {"lams": (0.9, 0.5), "epsilons": (0.02, 0.1), "n_rounds": (1, 5), "kernel_rounds": (0, 1)}
QUICK_GRID: dict[str, Any] = {
    "lams": (0.9,),
    "epsilons": (0.02,),
    "n_rounds": (1,),
    "kernel_rounds": (0,),
    "n_folds": 2,
}


class Problem(NamedTuple):
    """Pools in standard deviations, pairs, held-out points, and the score of their transport."""

    X: np.ndarray
    Y: np.ndarray
    rows: Rows
    X_test: np.ndarray
    score: Callable[[np.ndarray], Record]


def draw_problem(run: Run, setting: str, seed: int, **wrong: Any) -> Problem:
    """Draw a problem of a setting.

    Options are ``n_pairs``, ``noise`` (share of wrong pairs), ``ratio`` (imbalance) and
    ``outliers`` (share).
    """
    return (image_problem if setting == IMAGES else site_problem)(run, seed, **wrong)


def caption_set(run: Run) -> Captions:
    """Return the embedded captions of digits."""
    return captions(run, 800 if run.quick else 4000)


def flickr(run: Run) -> np.ndarray:
    """Embed captions of photographs; none of them names a digit."""

    def make() -> np.ndarray:
        stimuli = load("clip-flickr8k", mirror=run.mirror).stimuli
        return embed_text(stimuli[["stimulus_id", "caption"]].iloc[: 80 if run.quick else 400]).values.astype(float)

    return run.once("flickr", make)


def image_problem(
    run: Run, seed: int, n_pairs: int = 100, noise: float = 0.0, ratio: float = 1.0, outliers: float = 0.0
) -> Problem:
    """Draw digits and captions in pools of one size.

    Half of the digits are ``ratio`` times rarer among the captions.

    Outliers are captions of photographs in the place of unpaired captions of digits; a wrong pair
    has another digit's caption.
    """
    mnist, text = digits(run), caption_set(run)
    train, test = latents(run, ENCODER)
    n, first = (400, 0) if run.quick else (2000, N_DEVELOPMENT)
    rng = np.random.default_rng(seed)
    images = first + balanced(mnist.labels[first : len(train)], n, rng)
    test_rows = rng.permutation(len(test))[: 500 if run.quick else 3000]
    rare = set(rng.permutation(DIGITS)[:5])
    common = n / (5 + 5 / ratio)
    captions_of = {d: rng.permutation(np.flatnonzero(text.labels == d)) for d in DIGITS}
    pool = rng.permutation(
        np.concatenate([captions_of[d][: round(common / (ratio if d in rare else 1))] for d in DIGITS])
    )
    X, Y, caption_labels, labels = train[images], text.pool[pool], text.labels[pool], mnist.labels[images]
    rows = balanced(labels, n_pairs, np.random.default_rng([seed, 1]))
    rng = np.random.default_rng([seed, 2])
    order = rng.permutation(len(pool))
    columns = np.empty(n_pairs, dtype=int)
    for d in DIGITS:
        of_digit = np.flatnonzero(labels[rows] == d)
        columns[of_digit] = order[caption_labels[order] == d][: len(of_digit)]
    rng = np.random.default_rng([seed, 3])
    for pair in rng.permutation(n_pairs)[: round(noise * n_pairs)]:
        candidates = np.setdiff1d(np.flatnonzero(caption_labels != labels[rows[pair]]), columns)
        columns[pair] = rng.choice(candidates)
    if outliers:
        outlier_rows = rng.permutation(np.setdiff1d(np.arange(len(pool)), columns))[: round(outliers * len(pool))]
        Y = Y.copy()
        Y[outlier_rows] = rng.permutation(flickr(run))[: len(outlier_rows)]
    head, truth = digit_head(run, text), mnist.test_labels[test_rows]
    source, target = Standardiser.fit(X), Standardiser.fit(Y)

    def score(moved: np.ndarray) -> Record:
        predicted = head.predict(target.backward(moved))
        null = shuffled_accuracies(predicted, truth, np.random.default_rng([seed, 4]), N_NULL)
        return record_of(float((predicted == truth).mean()), null, len(truth))

    return Problem(source.forward(X), target.forward(Y), (rows, columns), source.forward(test[test_rows]), score)


def it_sites(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, str]]:
    """Return both halves of the real IT sites, the categories of the stimuli, and digests."""

    def make() -> tuple[Any, ...]:
        data: Any = load("majajhong2015-it-v6", mirror=run.mirror)
        halves = site_halves(drop_constant(data.recordings))
        categories = data.recordings["category_name"].values.astype(str)
        return *(half.values.astype(float) for half in halves), categories, dict(data.attrs["digests"])

    return run.once("it", make)


def site_problem(
    run: Run, seed: int, n_pairs: int = 100, noise: float = 0.0, ratio: float = 1.0, outliers: float = 0.0
) -> Problem:
    """Draw two halves of the IT sites.

    Half of the categories are ``ratio`` times rarer among the unpaired stimuli of the target.

    Outliers are added to the target: every site's responses dealt anew, so that no two sites
    belong together. A wrong pair has the partner of another wrong pair.
    """
    first_half, second_half, categories, _ = it_sites(run)
    order = np.random.default_rng(seed).permutation(len(first_half))
    n_test = len(first_half) // 5
    test_rows, paired, unpaired = order[:n_test], order[n_test : n_test + n_pairs], order[n_test + n_pairs :]
    source_rows, target_rows = np.array_split(unpaired, 2)
    rng = np.random.default_rng([seed, 1])
    names = np.unique(categories)
    for name in rng.permutation(names)[: len(names) // 2]:
        of_category = np.flatnonzero(categories[target_rows] == name)
        target_rows = np.delete(target_rows, of_category[round(len(of_category) / ratio) :])
    X, Y = first_half[np.r_[paired, source_rows]], second_half[np.r_[paired, target_rows]]
    columns = np.arange(n_pairs)
    rng = np.random.default_rng([seed, 2])
    wrong = rng.permutation(n_pairs)[: round(noise * n_pairs)]
    columns[wrong] = np.roll(columns[wrong], 1)
    if outliers:
        n_out = round(outliers / (1 - outliers) * len(Y))
        Y = np.concatenate([Y, np.stack([rng.choice(site, n_out) for site in Y.T], axis=1)])
    source, target = Standardiser.fit(X), Standardiser.fit(Y)
    truth = second_half[test_rows]

    def score(moved: np.ndarray) -> Record:
        null_rng = np.random.default_rng([seed, 3])
        null = [float(np.median(pearson(null_rng.permutation(moved), truth)[0])) for _ in range(N_NULL)]
        return record_of(float(np.median(pearson(moved, truth)[0])), null, len(truth))

    return Problem(
        source.forward(X),
        target.forward(Y),
        (np.arange(n_pairs), columns),
        source.forward(first_half[test_rows]),
        score,
    )


def record_of(value: float, null: list[float], n_test: int) -> Record:
    """Return a value with the 95 % quantile of its null."""
    return {"value": round(value, 4), "null_95": round(float(np.quantile(null, 0.95)), 4), "n_test": n_test}


def ceilings(run: Run, setting: str, seed: int) -> dict[str, float]:
    """Return reference values of a setting.

    Images: the head on true captions, and a readout of labelled latents. Sites: ridge with all
    pairs.
    """
    if setting == IMAGES:

        def make() -> dict[str, float]:
            mnist, text = digits(run), caption_set(run)
            train, test = latents(run, ENCODER)
            first = 0 if run.quick else N_DEVELOPMENT
            scale = Standardiser.fit(train[first : first + 10_000])
            labels = mnist.labels[first : len(train)][:10_000]
            reader = LogisticRegression(max_iter=500).fit(scale.forward(train[first : first + 10_000]), labels)
            truth = mnist.test_labels[: len(test)]
            return {
                "the head on true captions": head_accuracy(run, text),
                "a reader of 10,000 labelled images": float(reader.score(scale.forward(test), truth)),
            }

        return run.once("image ceilings", make)
    first_half, _, _, _ = it_sites(run)
    all_paired = site_problem(run, seed, n_pairs=len(first_half) - len(first_half) // 5)
    return {"ridge, all training stimuli paired": score_ridge(all_paired)["value"]}


def cost_of(problem: Problem, **options: Any) -> BridgeCost:
    """Return the bridge cost of a problem, geodesic by default."""
    return bridge_cost(problem.X, problem.Y, problem.rows, **{"metric": "geodesic", **options})


def score_mean_partner(problem: Problem, cost: BridgeCost, **options: Any) -> Record:
    """Score the mean partner by the formula of the factored plan.

    `BridgeAligner` does the same with ``map="barycentric"``.
    """
    return problem.score(couple(cost, **options).map(problem.X_test, problem.Y))


def score_kernel_readout(problem: Problem, coupling: Coupling, seed: int) -> Record:
    """Score kernel ridge from points to their mean partners, one readout for every coupling."""
    return problem.score(partner_kernel_map(coupling, problem.X, problem.Y, seed=seed)(problem.X_test))


def score_ridge(problem: Problem) -> Record:
    """Score ridge of the pairs alone."""
    return problem.score(ridge_map(problem.X[problem.rows[0]], problem.Y[problem.rows[1]])(problem.X_test))


def score_fused(problem: Problem, run: Run, seed: int) -> Record:
    """Score the fused bridge with a small grid."""
    return problem.score(
        fuse(problem.X, problem.Y, problem.rows, seed=seed, **(QUICK_GRID if run.quick else GRID)).map(problem.X_test)
    )


def score_flows(problem: Problem, run: Run, seed: int) -> dict[str, Record]:
    """Score flows from both bases, trained on the plan of the default."""
    coupling = couple(cost_of(problem))
    training = Training(validation=0.2, n_steps=20 if run.quick else None)
    bases: dict[str, Any] = {"ridge": "affine", "barycentric": lambda points: coupling.map(points, problem.Y)}
    return {
        name: problem.score(
            ConditionalFlow(base, training=training, seed=seed)
            .fit(problem.X, problem.Y, coupling)
            .transport(problem.X_test)
        )
        for name, base in bases.items()
    }
