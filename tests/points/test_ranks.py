"""Ranks of partners: agreement with the whole table of similarities, ties, several partners, hubs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from neurobridge.points import ranks
from neurobridge.points.ranks import (
    HUB_NEIGHBORS,
    SIMILARITIES,
    hub_corrected,
    partner_ranks,
    rank_of,
    ranks_among_many,
)


def table_of(X, Y, similarity):
    return -cdist(X, Y) if similarity == "euclidean" else 1 - cdist(X, Y, similarity)


@pytest.mark.parametrize("hub_neighbors", [0, HUB_NEIGHBORS])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_blocks_give_the_ranks_of_the_whole_table(similarity, hub_neighbors, monkeypatch):
    monkeypatch.setattr(ranks, "_BLOCK", 100)
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(23, 5)), rng.normal(size=(31, 5))
    partners = rng.integers(0, 31, size=23)
    permutations = np.array([rng.permutation(23) for _ in range(4)])
    whole = table_of(X, Y, similarity)
    whole = hub_corrected(whole) if hub_neighbors else whole
    ranked = partner_ranks(
        X, Y, partners, similarity=similarity, hub_neighbors=hub_neighbors, permutations=permutations
    )
    rows = np.arange(23)
    np.testing.assert_array_equal(ranked.rank, rank_of(whole, whole[rows, partners]))
    for permuted, order in zip(ranked.permuted, permutations, strict=True):
        np.testing.assert_array_equal(permuted, rank_of(whole, whole[rows, partners[order]]))


def test_hub_correction_is_that_of_its_equation():
    S = np.random.default_rng(0).normal(size=(14, 12))
    corrected = hub_corrected(S)
    for i, j in ((0, 0), (5, 11), (13, 3)):
        expected = 2 * S[i, j] - np.sort(S[i])[-10:].mean() - np.sort(S[:, j])[-10:].mean()
        assert corrected[i, j] == pytest.approx(expected)


def test_ranks_count_ties_half():
    similarity = np.array([[3.0, 1.0, 2.0], [5.0, 5.0, 0.0], [4.0, 6.0, 2.0]])
    assert rank_of(similarity, np.diag(similarity)).tolist() == [1, 1.5, 3]


@settings(max_examples=25, deadline=None)
@given(n=st.integers(2, 30), similarity=st.sampled_from(SIMILARITIES), seed=st.integers(0, 99))
def test_a_constant_prediction_has_the_rank_in_the_middle(n, similarity, seed):
    Y = np.random.default_rng(seed).normal(size=(n, 4))
    queries = np.zeros((n, 4)) if similarity != "euclidean" else np.repeat(Y[:1], n, axis=0)
    ranked = partner_ranks(queries, np.repeat(Y[:1], n, axis=0), similarity=similarity)
    np.testing.assert_array_equal(ranked.rank, (n + 1) / 2)


def test_the_best_of_several_partners_counts_and_the_others_do_not_compete():
    points = np.array([[1.0, 0.0], [0.9, 0.1], [0.8, 0.2], [0.0, 1.0]])
    query = np.array([[1.0, 0.0]])
    assert partner_ranks(query, points, [[1, 0]]).rank.tolist() == [1]
    assert partner_ranks(query, points, [[2, 1]]).rank.tolist() == [2]
    # Two partners at the same place, and a stranger there as well: the stranger alone is level.
    level = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    ranked = partner_ranks(query, level, [[0, 1, -1]], permutations=np.zeros((1, 1), dtype=int))
    assert ranked.rank.tolist() == ranked.permuted[0].tolist() == [1.5]


def test_an_unknown_similarity_is_refused():
    with pytest.raises(ValueError, match=r"'dot'.*'cosine', 'correlation', 'euclidean'"):
        partner_ranks(np.eye(2), np.eye(2), similarity="dot")


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_ranks_among_many_points_are_those_of_a_search_of_all(similarity, monkeypatch):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 6))
    partners = rng.permutation(300)[:40]
    queries = points[partners] + rng.normal(size=(40, 6))
    expected = partner_ranks(queries, points, partners, similarity=similarity).rank
    monkeypatch.setattr(ranks, "_BLOCK", 40 * 64)
    found = ranks_among_many(queries, points, partners, similarity=similarity, n_nearest=7)
    np.testing.assert_array_equal(found.rank, expected)
    np.testing.assert_array_equal(
        found.dealt_rank, partner_ranks(queries, points, np.roll(partners, -1), similarity=similarity).rank
    )
    for k in range(7):
        ranked = partner_ranks(queries, points, found.nearest[:, k], similarity=similarity).rank
        np.testing.assert_array_equal(ranked, k + 1)
