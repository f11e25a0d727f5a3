"""Anybody's cost: a matrix, or an object with four members, is solved and read like a bridge cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import ot
import pytest
import torch

from neurobridge.bridge import Cost, Coupling, DenseCost, Geometry, bridge_cost, couple
from neurobridge.bridge.cost.protocol import TransposedCost, transposed
from tests.refusals import refused

RNG = np.random.default_rng(0)
MATRIX = RNG.uniform(0.1, 2, size=(12, 9))
X, Y = RNG.normal(size=(40, 4)), RNG.normal(size=(35, 6))
PAIRS = (np.arange(6), np.arange(6))


@dataclass(frozen=True)
class Outer:
    """The cost ``|i - j|`` between numbered points, made when it is read, with no more than the protocol asks."""

    left: np.ndarray
    right: np.ndarray
    unit: float = 10.0

    @property
    def shape(self):
        return len(self.left), len(self.right)

    def rows(self, block):
        return torch.as_tensor(np.abs(self.left[block][:, None] - self.right[None, :]).astype(float))

    def subset(self, rows, columns):
        return Outer(self.left[rows], self.right[columns], self.unit)


OUTER = Outer(np.arange(12), np.arange(9))


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, DenseCost])
def test_a_matrix_is_solved_as_pot_solves_it(kind):
    coupling = couple(kind(MATRIX), method="sinkhorn", epsilon=0.1, tol=1e-10, max_iter=50_000)
    a, b = np.full(12, 1 / 12), np.full(9, 1 / 9)
    theirs = ot.bregman.sinkhorn(
        a, b, MATRIX, 0.1 * MATRIX.mean(), method="sinkhorn_log", stopThr=1e-12, numItermax=50_000
    )
    np.testing.assert_allclose(coupling.dense(), theirs, rtol=1e-6, atol=1e-12)
    exact = couple(kind(MATRIX), method="exact")
    np.testing.assert_allclose(exact.dense(), ot.emd(a, b, MATRIX), atol=1e-12)
    assert exact.expected_cost() == pytest.approx((exact.dense() * MATRIX).sum())
    assert isinstance(coupling.cost, DenseCost)


@pytest.mark.parametrize("unbalanced", [None, 0.5])
@pytest.mark.parametrize("method", ["exact", "sinkhorn"])
def test_the_unit_of_a_matrix_does_not_change_its_plan(method, unbalanced):
    options = {"method": method, "epsilon": 0.1, "unbalanced": unbalanced, "tol": 1e-4, "max_iter": 50_000}
    plans = [couple(factor * MATRIX, **options).dense() for factor in (1.0, 1000.0)]
    np.testing.assert_allclose(plans[1], plans[0], rtol=1e-3, atol=1e-6)


def test_four_members_make_a_cost():
    assert isinstance(OUTER, Cost)
    assert isinstance(bridge_cost(X, Y, PAIRS), Cost)
    assert not isinstance(MATRIX, Cost)
    coupling = couple(OUTER, method="sinkhorn", epsilon=0.1, tol=1e-9, max_iter=50_000)
    matrix = OUTER.rows(slice(None)).numpy()
    theirs = couple(DenseCost(matrix, scale=10.0), method="sinkhorn", epsilon=0.1, tol=1e-9, max_iter=50_000)
    np.testing.assert_array_equal(coupling.dense(), theirs.dense())
    assert coupling.expected_cost() == pytest.approx((coupling.dense() * matrix).sum())
    assert coupling.entropy() == pytest.approx(theirs.entropy())
    assert [len(side) for side in coupling.anchors] == [0, 0]
    turned = coupling.transposed()
    assert turned.expected_cost() == pytest.approx(coupling.expected_cost())
    assert turned.transposed().cost is OUTER


@pytest.mark.parametrize(
    "cost", [OUTER, DenseCost(MATRIX), bridge_cost(X, Y, PAIRS).at(0.1)], ids=["own", "dense", "bridge"]
)
def test_transposition_and_parts_are_those_of_the_matrix(cost):
    matrix = cost.rows(slice(None)).numpy()
    rows, columns = np.array([3, 0, 7]), np.array([8, 2])
    for turned in (transposed(cost), TransposedCost(cost)):
        assert turned.shape == matrix.T.shape
        assert turned.unit == cost.unit
        np.testing.assert_allclose(turned.rows(slice(None)).numpy(), matrix.T, atol=1e-12)
        np.testing.assert_allclose(turned.rows(columns).numpy(), matrix.T[columns], atol=1e-12)
        part = turned.subset(columns, rows)
        np.testing.assert_allclose(part.rows(slice(None)).numpy(), matrix.T[np.ix_(columns, rows)], atol=1e-12)
        assert part.unit == cost.unit
    np.testing.assert_allclose(cost.rows(rows).numpy(), matrix[rows], atol=1e-12)
    np.testing.assert_allclose(cost.rows(slice(2, 9, 3)).numpy(), matrix[2:9:3], atol=1e-12)
    np.testing.assert_allclose(cost.rows(slice(-2, None)).numpy(), matrix[-2:], atol=1e-12)


@pytest.mark.parametrize("reduce", ["min", "softmin"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_and_entries_of_a_bridge_are_those_of_the_dense_cost(reduce, dtype):
    cost = bridge_cost(X.astype(dtype), Y.astype(dtype), PAIRS, reduce=reduce)
    cost = cost if reduce == "min" else cost.at(0.1)
    dense = cost.dense()
    assert dense.dtype == dtype
    np.testing.assert_array_equal(cost.rows(slice(None)).numpy(), dense)
    assert cost.rows(slice(3, 3)).shape == (0, 35)
    i, j = np.array([0, 39, 5]), np.array([3, 0, 34])
    np.testing.assert_allclose(cost.entries(i, j), dense[i, j], rtol=1e-5, atol=1e-6)


def test_a_coupling_carries_the_cost_that_was_solved():
    cost = bridge_cost(X, Y, PAIRS)
    assert cost.epsilon is None
    for method in ("pairs", "factored", "sinkhorn", "exact"):
        assert couple(cost, method=method, epsilon=0.2).cost.epsilon == 0.2
    assert couple(cost.at(0.3)).epsilon == 0.3
    assert couple(cost.at(0.3), epsilon=0.2).cost.epsilon == 0.2
    assert couple(cost).epsilon == 0.05
    assert couple(bridge_cost(X, Y, PAIRS, reduce="min"), method="exact").cost.epsilon is None


def test_dense_with_a_temperature_still_works_and_names_the_new_way():
    cost = bridge_cost(X, Y, PAIRS)
    with pytest.warns(DeprecationWarning, match=r"cost\.at\(0\.1\)\.dense\(\)"):
        matrix = cost.dense(0.1)
    np.testing.assert_array_equal(matrix, cost.at(0.1).dense())


@pytest.mark.parametrize("epsilon", [0.0, -1.0, np.nan, np.inf])
def test_a_temperature_that_is_none_is_refused(epsilon):
    with pytest.raises(ValueError, match=r"cost\.at\(0\.05\)"):
        bridge_cost(X, Y, PAIRS).at(epsilon)


def test_a_minimum_has_no_temperature():
    with pytest.raises(ValueError, match="reduce='min'"):
        bridge_cost(X, Y, PAIRS, reduce="min").at(0.1)


@pytest.mark.parametrize(
    ("matrix", "fact"),
    [
        (np.ones(3), r"shape \(3,\)"),
        (np.ones((3, 0)), r"shape \(3, 0\)"),
        (np.array([[1.0, np.nan]]), "1 NaN"),
        (np.zeros((2, 2)), "unit of 0"),
    ],
)
def test_what_is_no_cost_matrix_is_refused(matrix, fact):
    with pytest.raises(ValueError, match=fact):
        couple(matrix, method="exact")


def test_what_needs_a_bridge_or_pairs_says_so():
    with refused(ValueError, "DenseCost", "method='factored'", "BridgeCost"):
        couple(MATRIX)
    with refused(ValueError, "method='pairs'", "DenseCost"):
        couple(MATRIX, method="pairs")
    with refused(ValueError, "pinned=True", "DenseCost"):
        couple(MATRIX, method="exact", pinned=True)
    with refused(ValueError, "source rows", [0, 12], [0, 11]):
        DenseCost(MATRIX, anchors=(np.array([0, 12]), np.array([0, 1])))
    with pytest.raises(MemoryError, match="12 x 9 cost"):
        couple(MATRIX, method="exact", memory_limit=10)


def test_pinning_and_pairs_work_on_a_matrix_with_anchors():
    cost = DenseCost(MATRIX, anchors=(np.array([0, 5]), np.array([1, 2])))
    pinned = couple(cost, method="exact", pinned=True)
    assert pinned.dense()[0].argmax() == 1
    assert pinned.dense()[5].argmax() == 2
    np.testing.assert_allclose(pinned.dense().sum(axis=1), pinned.a, atol=1e-12)
    np.testing.assert_allclose(couple(cost, method="pairs").dense()[cost.anchors], 0.5)


def test_known_pairs_are_a_coupling_without_a_cost():
    pairs = np.array([4, 0, 4, 2]), np.array([1, 1, 3, 0])
    coupling = Coupling.of_pairs(pairs, (6, 5))
    assert coupling.shape == (6, 5)
    assert coupling.method == "pairs"
    assert coupling.cost is None
    assert coupling.converged
    expected = np.zeros((6, 5))
    expected[pairs] = 0.25
    np.testing.assert_allclose(coupling.dense(), expected)
    np.testing.assert_array_equal(coupling.anchors, pairs)
    values = RNG.normal(size=(5, 2))
    np.testing.assert_allclose(coupling.barycentric(values)[4], (values[1] + values[3]) / 2)
    np.testing.assert_array_equal(coupling.transposed().anchors, pairs[::-1])
    np.testing.assert_allclose(coupling.transposed().dense(), expected.T)
    assert coupling.entropy() == pytest.approx(np.log(4))
    with pytest.raises(ValueError, match=r"no cost.*method='pairs'"):
        coupling.expected_cost()
    with refused(ValueError, "target rows", [0, 3], [0, 2]):
        Coupling.of_pairs(pairs, (6, 3))


def test_known_pairs_are_drawn_evenly_and_the_same_from_the_same_seed():
    pairs = np.array([4, 0, 4, 2]), np.array([1, 1, 3, 0])
    coupling = Coupling.of_pairs(pairs, (6, 5))
    i, j = coupling.sample(20_000, np.random.default_rng(0))
    number = np.random.default_rng(0).integers(4, size=20_000)
    np.testing.assert_array_equal(np.stack((i, j)), np.stack(pairs)[:, number])
    turned = coupling.transposed().sample(20_000, np.random.default_rng(0))
    np.testing.assert_array_equal(np.stack(turned), np.stack((j, i)))


@pytest.mark.parametrize(
    ("options", "fact"),
    [({"metric": "manhattan"}, "manhattan"), ({"scale": "max"}, "max"), ({"metric": ("cosine",) * 3}, "3 metrics")],
)
def test_a_geometry_refuses_what_is_not_known(options, fact):
    with pytest.raises(ValueError, match=fact):
        Geometry(**options)


def test_a_geometry_knows_its_sides():
    geometry = Geometry(("cosine", "geodesic"), "median", 7)
    assert geometry.metrics == ("cosine", "geodesic")
    assert geometry.sides[1] == Geometry("geodesic", "median", 7)
    assert geometry.transposed().metrics == ("geodesic", "cosine")
    assert Geometry("cosine").metrics == ("cosine", "cosine")
