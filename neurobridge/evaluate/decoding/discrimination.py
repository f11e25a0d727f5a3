"""Sensitivity d' of objects, pairs of objects and images, and its consistency between two observers."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import norm

from neurobridge.assemblies.schema import PRESENTATION, STIMULUS_ID
from neurobridge.evaluate.correlation import unit_columns, unit_rows
from neurobridge.evaluate.decoding.confusions import CHOICE, TRUTH, parts_of
from neurobridge.evaluate.score.schema import make_score, score_attrs
from neurobridge.points.conversion import real_array
from neurobridge.points.options import is_choice

_DIMS = {
    "object": (TRUTH,),
    "pair": (TRUTH, CHOICE),
    "image": (PRESENTATION,),
    "image_distractor": (PRESENTATION, CHOICE),
}
Level = Literal["object", "pair", "image", "image_distractor"]
Correction = Literal["loglinear", "cap"]


def dprime(hit: npt.ArrayLike, false_alarm: npt.ArrayLike, *, cap: float = 5.0) -> np.ndarray:
    """Compute the sensitivity ``d' = Z(hit rate) - Z(false-alarm rate)``, Z the inverse of the normal distribution.

    Rates of 0 or 1 make it infinite. As in Rajalingham et al. 2018 (J. Neurosci. 38:7255) it is then capped, at +-5 by default,
    and a warning counts the capped values. Two rates of 0 (or of 1) do not differ: d' = 0.

    Parameters
    ----------
    hit, false_alarm : arrays of rates in [0, 1], of shapes that broadcast
        NaN gives NaN.
    cap : float
        Positive; infinite to leave d' as it is.

    Returns
    -------
    array of the shape of both
        In standard deviations of the decision variable.

    Raises
    ------
    ValueError
        A rate outside [0, 1], or a cap that is not positive.

    Examples
    --------
    >>> from neurobridge.evaluate.decoding import dprime
    >>> dprime([0.84, 0.5], [0.16, 0.5]).round(2).tolist()
    [1.99, 0.0]
    """
    hits, false_alarms = (
        real_array(rate, name=name).astype(np.float64, copy=False)
        for name, rate in (("hit", hit), ("false_alarm", false_alarm))
    )
    value, n_capped = _dprime(hits, false_alarms, cap)
    _warn_capped(n_capped, value.size, cap, stacklevel=3)
    return value


def _dprime(hit: np.ndarray, false_alarm: np.ndarray, cap: float) -> tuple[np.ndarray, int]:
    if not cap > 0:
        raise ValueError(f"found cap={cap}; expected a positive number. Mend: leave it out for 5.")
    for name, rate in (("hit", hit), ("false_alarm", false_alarm)):
        # Sums of fractions may pass 1 by rounding.
        if (rate < -1e-9).any() or (rate > 1 + 1e-9).any():
            raise ValueError(
                f"{name}: found rates from {np.nanmin(rate):.3g} to {np.nanmax(rate):.3g}; expected them in [0, 1]. "
                "Mend: divide counts by the number of trials."
            )
    z_hit, z_false = norm.ppf(np.clip(hit, 0, 1)), norm.ppf(np.clip(false_alarm, 0, 1))
    with np.errstate(invalid="ignore"):
        value = np.where(z_hit == z_false, 0.0, z_hit - z_false)
    beyond = np.abs(value) > cap
    return np.where(beyond, np.copysign(cap, value), value), int(beyond.sum())


def loglinear(count: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return a rate that is never 0 or 1: ``(count + 1/2) / (n + 1)`` (Hautus 1995, Behav. Res. Methods 27:46)."""
    return (count + 0.5) / (n + 1)


def _warn_capped(n_capped: int, n: int, cap: float, *, stacklevel: int) -> None:
    if n_capped:
        warnings.warn(
            f"found {n_capped} of {n} d' beyond +-{cap:g} (rates of 0 or 1 make it infinite); they are set to that. Their size is "
            "not known: more trials or repeats a class would tell.",
            UserWarning,
            stacklevel=stacklevel,
        )


def discriminate(
    chosen: xr.DataArray,
    *,
    level: Level = "object",
    correction: Correction | None = None,
    cap: float = 5.0,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Compute d' of objects, pairs of objects or images from choices.

    Parameters
    ----------
    chosen : xarray.DataArray
        From `choices` or `tabulate_choices`.
    level : {"object", "pair", "image", "image_distractor"}
        - "object": each class against all others, dims (truth): hits are choices of the class for its images, false alarms choices
          of it for other images (the one-against-rest d' of Majaj, Hong, Solomon & DiCarlo 2015; B.O1 of Rajalingham et al. 2018).
        - "pair": each class against each other, dims (truth, choice), NaN on the diagonal: of the choices that fall on either, the
          hit rate for images of the first and the false-alarm rate for images of the second (B.O2). Symmetric.
        - "image": each image against all other classes, dims (presentation): its own hit rate, the false-alarm rate of its class
          (B.I1).
        - "image_distractor": each image against each other class, dims (presentation, choice), NaN for its own (B.I2).

        In the image levels ``dprime_centred`` is d' less the mean over images of the same class (and distractor), B.I1n and
        B.I2n: it tells which images of a class are hard.
    correction : {"loglinear", "cap"}, optional
        Treatment of rates of 0 and 1. "loglinear": every rate is ``(count + 1/2) / (n + 1)``, counting images (in image
        levels, an image's choices): finite (Hautus 1995, Behav. Res. Methods 27:46), but rates of few images are drawn towards
        1/2 more than those of many, which moves chance away from 0. "cap": the size of d' is set to ``cap``, with a warning, as
        Rajalingham et al. 2018; a class never chosen rightly then counts -cap, and many of these swamp the mean. Default:
        "loglinear" for objects and pairs, "cap" for images.
    cap : float
        Bound on the size of d' under "cap"; see `dprime`.
    n_permutations : int
        Size of the null: classes are shuffled among images, mean d'.
    seed : int

    Returns
    -------
    xarray.Dataset
        Score without dims: ``raw``, the mean d', its ``null`` and ``p_value``. And ``dprime``, ``hit`` and ``false_alarm`` on the
        dims above, ``dprime_centred`` in image levels, and ``accuracy``. Attributes count images, classes and capped values.

    Raises
    ------
    AssemblyError
        Not an array of choices, classes without images, or fractions that are not in [0, 1].
    ValueError
        Unknown level or correction, or a cap that is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.assemblies import make_assembly
    >>> from neurobridge.evaluate.decoding import choices, discriminate
    >>> labels = np.array(["boat", "car", "face"] * 20)
    >>> responses = np.random.default_rng(0).normal(size=(60, 3)) + 2 * np.eye(3)[np.arange(60) % 3]  # simulated
    >>> recordings = make_assembly(
    ...     responses,
    ...     presentation={"stimulus_id": range(60), "category_name": labels},
    ...     neuroid={"neuroid_id": range(3)},
    ... )
    >>> score = discriminate(choices(recordings, "category_name", readout="lda", n_repeats=1), n_permutations=99)
    >>> score["dprime"].sizes["truth"], float(score["raw"]) > 1, float(score["p_value"])
    (3, True, 0.01)
    """
    if not is_choice(correction, (None, "loglinear", "cap")):
        raise ValueError(f"found correction={correction!r}; expected 'loglinear' or 'cap'. Mend: choose one of them.")
    if not is_choice(level, _DIMS):
        raise ValueError(f"found level={level!r}; expected one of {tuple(_DIMS)}. Mend: choose one of them.")
    P, truth, classes = parts_of(chosen)
    rule = correction or ("loglinear" if level in ("object", "pair") else "cap")
    shown = chosen["n_choices"].values if "n_choices" in chosen.coords else np.ones(len(P))

    def measure(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        hit, false, n_hit, n_false = _rates(P, codes, shown, level)
        if rule == "loglinear":
            hit, false = loglinear(hit * n_hit, n_hit), loglinear(false * n_false, n_false)
        return hit, false, *_dprime(hit, false, cap if rule == "cap" else np.inf)

    hit, false_alarm, value, n_capped = measure(truth)
    _warn_capped(n_capped, int(np.isfinite(value).sum()), cap, stacklevel=3)
    rng = np.random.default_rng(seed)
    null = np.array([np.nanmean(measure(rng.permutation(truth))[2]) for _ in range(n_permutations)])
    dims = _DIMS[level]
    extra: dict[str, Any] = {
        "dprime": (dims, value),
        "hit": (dims, hit),
        "false_alarm": (dims, false_alarm),
        "accuracy": float(P[np.arange(len(P)), truth].mean()),
    }
    coords: dict[str, Any] = {CHOICE: classes} if CHOICE in dims else {}
    if TRUTH in dims:
        coords[TRUTH] = classes
    else:
        class_means = np.stack([value[truth == k].mean(axis=0) for k in range(len(classes))])
        extra["dprime_centred"] = (dims, value - class_means[truth])
        coords |= {STIMULUS_ID: (PRESENTATION, chosen[STIMULUS_ID].values), TRUTH: (PRESENTATION, classes[truth])}
    inherited = {"splits": "choices as given", "n_splits": 1, **chosen.attrs}
    attrs = {
        **score_attrs(inherited, int(inherited["n_splits"]), n_permutations, seed),
        "metric": f"d' ({level}), {inherited.get('metric', 'choices')}",
        "n_stimuli": len(P),
        "n_classes": len(classes),
        "correction": rule,
        "cap": cap,
        "n_capped": n_capped,
    }
    attrs["digests"] = inherited.get("digests", attrs["digests"])
    return make_score(float(np.nanmean(value)), null=null, extra=extra, coords=coords, attrs=attrs)


def _rates(
    P: np.ndarray, truth: np.ndarray, shown: np.ndarray, level: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return hit and false-alarm rates of a level, and the numbers of choices that each is a fraction of.

    ``P`` are fractions of shape (n_images, n_classes), ``truth`` the class of each image and ``shown`` its number of choices.
    """
    n_images, n_classes = P.shape
    rows = np.arange(n_images)
    member = np.zeros((n_classes, n_images))
    member[truth, rows] = 1
    sizes = member.sum(axis=1)
    sums = member @ P
    correct = np.diag(sums)
    if level in ("object", "image"):
        n_false = n_images - sizes
        false = (P.sum(axis=0) - correct) / n_false
        if level == "object":
            return correct / sizes, false, sizes, n_false
        return P[rows, truth], false[truth], shown, n_false[truth]
    # [a, b]: choices of a or b, for images of a; and for images of b.
    off = np.where(np.eye(n_classes, dtype=bool), np.nan, 1.0)
    n_hit, n_false = (correct[:, None] + sums) * off, (correct[None, :] + sums.T) * off
    with np.errstate(invalid="ignore"):
        # Where neither class was chosen nothing is known: even odds.
        hit = np.where(n_hit == 0, 0.5, correct[:, None] / n_hit)
        false = np.where(n_false == 0, 0.5, sums.T / n_false)
        if level == "pair":
            return hit, false, n_hit, n_false
        n_image = (P[rows, truth][:, None] + P) * off[truth]
        image = np.where(n_image == 0, 0.5, P[rows, truth][:, None] / n_image)
    return image, false[truth], n_image * shown[:, None], n_false[truth]


def consistency(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    *,
    n_permutations: int = 1000,
    seed: int = 0,
) -> xr.Dataset:
    """Correlate the difficulties (d') of the same items for two observers, corrected for the noise in both.

    With halves a, a' of one observer's trials and b, b' of the other's, ``r_n = mean(r(a, b), r(a, b'), r(a', b), r(a', b')) /
    sqrt(r(a, a') r(b, b'))``; all from half of the data, so that no prediction formula is needed (Rajalingham et al. 2018;
    Johnson, Hsiao & Yoshioka 2002; used in Majaj et al. 2015 over tasks).

    Parameters
    ----------
    first, second : tuple of two arrays of the same shape
        The same measure from two halves of the trials (of an animal or a human pool), or of two independent draws (of a
        readout: other training images and other repetitions of the recordings), e.g. ``discriminate(...)["dprime_centred"]``.
        Items that are NaN in any are left out, and counted.
    n_permutations : int
        Size of the null: the items of the second observer are shuffled.
    seed : int

    Returns
    -------
    xarray.Dataset
        Score without dims: ``raw``, the mean correlation of halves; ``ceiling``, ``sqrt(r(a, a') r(b, b'))``; ``normalized``,
        r_n, their ratio, NaN with a warning where a reliability is not positive; may pass 1 by chance and is not clipped. And
        ``reliability_first`` and ``reliability_second``.

    Raises
    ------
    ValueError
        Shapes differ, fewer than three items are left, or one of the halves does not vary.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.evaluate.decoding import consistency
    >>> rng = np.random.default_rng(0)
    >>> hard = rng.normal(size=200)  # simulated: two observers with one difficulty an item, measured with noise
    >>> first, second = ([hard + rng.normal(size=200) for half in range(2)] for observer in range(2))
    >>> score = consistency(first, second, n_permutations=99)
    >>> round(float(score["raw"]), 1), round(float(score["normalized"]), 1)
    (0.5, 1.0)
    """
    halves = [real_array(half, name="half").astype(np.float64).ravel() for half in (*first, *second)]
    if len(halves) != 4 or len({len(half) for half in halves}) != 1:
        raise ValueError(
            f"found {len(halves)} halves of sizes {[len(half) for half in halves]}; expected two of each observer, equally long. "
            "Mend: measure the same items in both."
        )
    stack = np.stack(halves)
    kept = np.asarray(np.isfinite(stack).all(axis=0))
    stack = stack[:, kept]
    constant = ~unit_columns(stack.T)[1] if stack.shape[1] else np.ones(len(stack), dtype=bool)
    if stack.shape[1] < 3 or constant.any():
        raise ValueError(
            f"found {stack.shape[1]} items known to both (of {len(kept)}), {int(constant.sum())} halves "
            "without variation; expected three or more items and halves that vary. Mend: more items, or a finer measure."
        )
    unit = unit_rows(stack - stack.mean(axis=1, keepdims=True))[0]
    raw = float((unit[:2] @ unit[2:].T).mean())
    reliability = float(unit[0] @ unit[1]), float(unit[2] @ unit[3])
    if min(reliability) <= 0:
        warnings.warn(
            f"found split-half reliabilities {reliability[0]:.3f} and {reliability[1]:.3f}; the consistency of a measure that does "
            "not agree with itself is not defined, and normalized is NaN. More trials would help.",
            UserWarning,
            stacklevel=2,
        )
    rng = np.random.default_rng(seed)
    null = np.array([(unit[:2] @ unit[2:, rng.permutation(unit.shape[1])].T).mean() for _ in range(n_permutations)])
    n_items = int(kept.sum())
    attrs = {
        "metric": "noise-corrected consistency",
        "splits": "two halves of each observer",
        "n_stimuli": n_items,
        "n_items": n_items,
        "n_items_left_out": int((~kept).sum()),
    }
    return make_score(
        raw,
        null=null,
        ceiling=np.sqrt(reliability[0] * reliability[1]) if min(reliability) > 0 else np.nan,
        extra={"reliability_first": reliability[0], "reliability_second": reliability[1]},
        attrs=score_attrs(attrs, 1, n_permutations, seed),
    )
