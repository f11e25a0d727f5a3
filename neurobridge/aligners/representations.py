"""Representations: which layers of a space, or which weights of them, predict the other space best."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.assemblies.schema import NEUROID
from neurobridge.bridge.fused.choosing.choice import beats
from neurobridge.bridge.fused.choosing.criteria import Criterion, Held, losses
from neurobridge.bridge.fused.choosing.folds import pairs_apart
from neurobridge.bridge.fused.chosen import held_side
from neurobridge.bridge.fused.solving.clouds import Cloud
from neurobridge.maps.linear import ALPHAS, ridge_map
from neurobridge.points.arrays import Rows
from neurobridge.points.display import Displayed
from neurobridge.points.scale import Standardiser
from neurobridge.store.kinds import register

#: Choose by the pairs; all layers together, the representation that others have to beat; and every neuroid of all layers alike.
AUTO, BALANCED, ALL = "auto", "balanced", "all"
#: Ways to read all layers together: the share of a layer in the variance is proportional to this power of its number of neuroids.
TOGETHER = {BALANCED: 0.5, "equal": 0.0, ALL: 1.0}
LAYER, POOLING = "layer", "pooling"

# As in the search of the fused bridge: too few pairs to choose with, pairs left out one at a time up to so many, and folds.
_FEWEST_PAIRS, _ONE_AT_A_TIME, _N_FOLDS = 4, 12, 5
# Every second penalty is enough to compare.
_ALPHAS = ALPHAS[::2]
# Standard errors by which a representation has to beat the balanced one.
_BEYOND = 1.0
# Layers that are read together at most, where not all are.
_MOST_TOGETHER = 4
# Variances below this share of the largest are rounding.
_NEGLIGIBLE = 1e-12

Shares = dict[str, float]
PointFunction = Callable[[np.ndarray], np.ndarray]


class LayerGroups(NamedTuple):
    """Layer of every neuroid of a space that has several.

    Attributes
    ----------
    names : str array of shape (n_dims,)
        The layer, or "layer/pooling" where the neuroids have several poolings.
    layers : str array of shape (n_dims,)
        The layer alone.
    """

    names: np.ndarray
    layers: np.ndarray

    @classmethod
    def of(cls, assembly: xr.DataArray) -> LayerGroups | None:
        """Read the layers of an assembly; None where there are fewer than two."""
        columns = [
            np.asarray(assembly.coords[name].values).astype(str)
            for name in (LAYER, POOLING)
            if name in assembly.coords and assembly.coords[name].dims == (NEUROID,)
        ]
        if LAYER not in assembly.coords or not columns:
            return None
        several = len(columns) == 2 and len(np.unique(columns[1])) > 1
        names = np.array(["/".join(both) for both in zip(*columns, strict=True)]) if several else columns[0]
        return cls(names, columns[0]) if len(np.unique(names)) > 1 else None

    @property
    def order(self) -> list[str]:
        """Names of the groups, in the order of the neuroids."""
        return list(dict.fromkeys(self.names.tolist()))

    def named(self, name: str) -> list[str]:
        """Return the groups that a name means: the group of that name, or all poolings of the layer."""
        return list(dict.fromkeys(self.names[(self.names == name) | (self.layers == name)].tolist()))

    def shares(self, names: Sequence[str], power: float = TOGETHER[BALANCED]) -> Shares:
        """Return the shares of some groups in the variance, ``s_g = n_g^power / sum n^power`` for n_g dimensions."""
        sizes = {name: float((self.names == name).sum()) ** power for name in names}
        return {name: size / sum(sizes.values()) for name, size in sizes.items()}

    def weights(self, shares: Mapping[str, float]) -> np.ndarray:
        """Return the factor of every standardised dimension, shape (n_dims,).

        ``w_d = sqrt(s_g D / n_g)`` for a dimension d of group g with n_g dimensions and the share s_g, D dimensions read in
        all: the variance that is read is D, as of D standardised dimensions, and that of group g is ``s_g D``.
        """
        counts = {name: int((self.names == name).sum()) for name in self.order}
        read = sum(counts[name] for name, share in shares.items() if share > 0)
        factors = {name: float(np.sqrt(share * read / counts[name])) for name, share in shares.items()}
        return np.array([factors.get(name, 0.0) for name in self.names.tolist()])


@register("representation")
@dataclass(frozen=True, eq=False, repr=False)
class Representation(Displayed):
    """Layers of a space that a fused bridge reads, and the evidence for them.

    Attributes
    ----------
    name : str
        "balanced", "equal", "all", a layer, or layers joined by " + ".
    shares : dict of str to float
        Share of each layer in the variance of the points that are read; they sum to one.
    losses : dict of str to float
        Mean loss of held-out pairs of each representation that was compared; empty where none was.
    weights : array of shape (n_dims,)
        Factor of every standardised dimension, 0 where its layer is not read.

    Examples
    --------
    >>> Representation("fc", {"fc": 1.0}, {"balanced": 0.8, "conv1": 0.9, "fc": 0.5}, np.array([0.0, 0.0, 1.0]))
    Representation('fc', loss=0.5, n_compared=3, loss_of_balanced=0.8)
    """

    name: str
    shares: Shares
    losses: dict[str, float]
    weights: np.ndarray

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"name": repr(self.name)}
        if self.losses:
            facts |= {"loss": self.losses[self.name], "n_compared": len(self.losses)}
            facts["loss_of_balanced"] = self.losses[BALANCED]
        return facts


def read_columns(points: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return standardised points (n_points, n_dims) as a bridge reads them, (n_points, n_dims_read)."""
    if weights is None:
        return points
    read = weights > 0
    return points[:, read] * weights[read]


def unread_columns(points: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Return standardised points of what a bridge gives in a space of which it reads every column."""
    return points if weights is None else points / weights


def in_units(points: np.ndarray, scale: Standardiser, weights: np.ndarray | None) -> np.ndarray:
    """Return what `read_columns` gave in the units of the space, (n_points, n_dims_read)."""
    if weights is None:
        return scale.backward(points)
    read = weights > 0
    return points * (scale.std[read] / weights[read]) + scale.mean[read]


def layer_groups(sides: Mapping[str, Any]) -> dict[str, LayerGroups]:
    """Read the layers of those sides that are assemblies with several."""
    groups = {role: LayerGroups.of(side) for role, side in sides.items() if isinstance(side, xr.DataArray)}
    return {role: each for role, each in groups.items() if each is not None}


def weights_of_sides(
    groups: Mapping[str, LayerGroups], chosen: Mapping[str, Representation], leaves: str, reaches: str
) -> dict[str, np.ndarray]:
    """Return the factors of the dimensions of the sides that have several layers, for a bridge from one side to the other.

    The side that is left is read as chosen. The side that is reached is given with all its layers: with their chosen shares,
    or with the same ones where some are not read.
    """
    weights = {}
    for role, each in groups.items():
        given = chosen[role].weights if role in chosen else None
        if given is None or (role == reaches and not given.all()):
            given = each.weights(each.shares(each.order))
        weights[role] = given
    return weights


def representations(
    asked: str,
    groups: Mapping[str, LayerGroups],
    points: Mapping[str, np.ndarray],
    rows: Rows,
    criterion: Criterion,
    scales: Mapping[str, Standardiser],
    classify: PointFunction | None = None,
    labels: np.ndarray | None = None,
    *,
    seed: int = 0,
) -> dict[str, Representation]:
    """Return what is read of the sides that have several layers.

    Parameters
    ----------
    asked : str
        "auto", "all", "balanced", "equal", a layer, or "layer/pooling".
    groups : mapping of str to LayerGroups
        Of those sides, among "source" and "target".
    points : mapping of str to arrays of shape (n, n_dims)
        Standardised points of both.
    rows : tuple of two int arrays of shape (n_pairs,)
    criterion, labels, seed
        See `choose_representation`.
    scales : mapping of str to Standardiser
        Of both sides.
    classify : callable, optional
        From target points, in their units, to labels.

    Returns
    -------
    dict of str to Representation

    Raises
    ------
    ValueError
        A layer that no side with several layers has.
    """
    if asked == AUTO:
        chosen: dict[str, Representation] = {}
        for role, other in (("source", "target"), ("target", "source")):
            if role not in groups:
                continue
            given = weights_of_sides(groups, {}, role, other).get(other)
            by_labels = criterion == "labels" and role == "source"
            own_units = partial(in_units, scale=scales[other], weights=given)
            chosen[role] = choose_representation(
                points[role],
                groups[role],
                read_columns(points[other], given),
                rows if role == "source" else (rows[1], rows[0]),
                # A frozen classifier reads target points; source points have none.
                criterion="correlation" if criterion == "labels" and not by_labels else criterion,
                sought_in=own_units if criterion == "retrieval" else None,
                classify=_composed(classify, own_units) if by_labels and classify is not None else None,
                labels=labels if by_labels else None,
                seed=seed,
            )
        return chosen
    if asked == ALL:
        return {}
    if asked in TOGETHER:
        shares = {role: each.shares(each.order, TOGETHER[asked]) for role, each in groups.items()}
    else:
        named = {role: each.named(asked) for role, each in groups.items()}
        shares = {role: groups[role].shares(names) for role, names in named.items() if names}
        if not shares:
            known = {role: each.order for role, each in groups.items()}
            shown = f"the layers {known}" if known else "no assembly with several layers"
            raise ValueError(
                f"found representation={asked!r} and {shown}; expected 'auto', {', '.join(map(repr, TOGETHER))} or a layer of an "
                "assembly that has several values of 'layer' on 'neuroid'. Mend: representation='auto'."
            )
    return {role: Representation(asked, each, {}, groups[role].weights(each)) for role, each in shares.items()}


def _composed(outer: PointFunction, inner: PointFunction) -> PointFunction:
    return lambda points: outer(inner(points))


def choose_representation(
    points: np.ndarray,
    groups: LayerGroups,
    images: np.ndarray,
    rows: Rows,
    *,
    criterion: Criterion,
    sought_in: PointFunction | None = None,
    classify: PointFunction | None = None,
    labels: np.ndarray | None = None,
    seed: int = 0,
) -> Representation:
    """Choose the layers by which ridge regression predicts the partners of held-out pairs best.

    Compared are

    1. all layers together, with shares of the variance that are proportional to the square root of their numbers of neuroids
       ("balanced"), the same ("equal"), or proportional to these numbers ("all": every neuroid counts alike);
    2. every layer alone;
    3. the two, three and four best layers together, balanced.

    The kernel of a representation is ``K = sum_g s_g Z_g Z_g^T / n_g``
    with the shares s_g and the standardised dimensions Z_g of group g (banded ridge regression: Nunez-Elizalde, Huth &
    Gallant 2019, NeuroImage 197:482), so that a representation costs as much as there are pairs, however many neuroids
    it has. Pairs are held out in five folds, one at a time up to twelve pairs. The balanced representation stays unless the
    best of the others has a lower loss by more than one standard error of the paired differences.

    Parameters
    ----------
    points : array of shape (n, n_dims)
        Standardised points of the space whose layers are compared.
    groups : LayerGroups
        Of its dimensions.
    images : array of shape (m, n_image_dims)
        Points of the other space.
    rows : tuple of two int arrays of shape (n_pairs,)
        Rows of both that are pairs.
    criterion : {"correlation", "error", "retrieval", "labels"}
        See `neurobridge.bridge.fused.choosing.criteria.losses`.
    sought_in : callable, optional
        With ``criterion="retrieval"``: from points like `images` to the coordinates in which partners are sought.
    classify, labels : callable and array of shape (n_pairs,), optional
        With ``criterion="labels"``: from points like `images` to labels, and the true labels of the pairs.
    seed : int
        Of the folds.

    Returns
    -------
    Representation
        Balanced, without losses, where there are fewer than four pairs, or all of them share a point.

    Examples
    --------
    The second layer carries the signal (simulated); the first one is larger and is noise:

    >>> rng = np.random.default_rng(0)
    >>> noise, signal = rng.normal(size=(60, 40)), rng.normal(size=(60, 4))
    >>> names = np.array(["first"] * 40 + ["second"] * 4)
    >>> pairs = np.arange(20), np.arange(20)
    >>> groups = LayerGroups(names, names)
    >>> choose_representation(np.hstack([noise, signal]), groups, signal[:, ::-1], pairs, criterion="correlation").name
    'second'
    """
    balanced = groups.shares(groups.order)
    folds = _folds(rows, seed)
    if len(rows[0]) < _FEWEST_PAIRS or not folds:
        return Representation(BALANCED, balanced, {}, groups.weights(balanced))
    grams = _grams(points[rows[0]], groups)
    held = held_side(Cloud.of(images), rows[1], sought_in)
    if classify is not None:
        held = replace(held, classify=classify, labels=labels)
    pair_losses: dict[str, np.ndarray] = {}
    shares: dict[str, Shares] = {}

    def note(name: str, given: Shares) -> None:
        gram = np.sum([share * grams[group] for group, share in given.items()], axis=0)
        pair_losses[name], shares[name] = _losses(criterion, gram, held, folds), given

    for name, power in TOGETHER.items():
        note(name, groups.shares(groups.order, power))
    # A layer may be called "all".
    titles = {name: f"layer {name}" if name in TOGETHER else name for name in groups.order}
    for name, title in titles.items():
        note(title, {name: 1.0})
    ranked = sorted(groups.order, key=lambda name: float(np.nanmean(pair_losses[titles[name]])))
    for number in range(2, min(_MOST_TOGETHER, len(ranked) - 1) + 1):
        note(" + ".join(ranked[:number]), groups.shares(ranked[:number]))
    mean = {name: float(np.nanmean(values)) for name, values in pair_losses.items()}
    best = min(mean, key=mean.__getitem__)
    name = best if beats(pair_losses[best], pair_losses[BALANCED], _BEYOND) else BALANCED
    return Representation(name, shares[name], mean, groups.weights(shares[name]))


def _grams(paired: np.ndarray, groups: LayerGroups) -> dict[str, np.ndarray]:
    """Return the inner products of paired points (n_pairs, n_dims) within each group, by dimension and about their mean."""
    centred = paired - paired.mean(axis=0)
    columns = {name: centred[:, groups.names == name] for name in groups.order}
    return {name: Z @ Z.T / Z.shape[1] for name, Z in columns.items()}


def _folds(rows: Rows, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the pairs to fit on and those held out, which share no point with them, fold by fold."""
    n_pairs = len(rows[0])
    n_folds = n_pairs if n_pairs <= _ONE_AT_A_TIME else _N_FOLDS
    order = np.random.default_rng(seed).permutation(n_pairs)
    folds = [(pairs_apart(rows, held), held) for held in np.array_split(order, n_folds)]
    return [(kept, held) for kept, held in folds if len(kept) >= 2]


def _losses(
    criterion: Criterion, gram: np.ndarray, held: Held, folds: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Return the losses of held-out pairs, shape (n_pairs,), whose partners ridge regression on an inner product predicts."""
    variances, axes = np.linalg.eigh(gram)
    read = variances > _NEGLIGIBLE * max(float(variances[-1]), 0.0)
    coordinates = axes[:, read] * np.sqrt(variances[read])
    predicted, origin = (np.full(held.truth.shape, np.nan) for _ in range(2))
    for kept, left_out in folds:
        mapping = ridge_map(coordinates[kept], held.truth[kept], alphas=_ALPHAS, penalty="shared")
        predicted[left_out] = mapping(coordinates[left_out])
        # On average ridge regression predicts the mean of its own pairs.
        origin[left_out] = held.truth[kept].mean(axis=0)
    return losses(criterion, predicted, held, origin)
