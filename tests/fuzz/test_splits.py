"""Splits from labels, numbers and texts: refused, or folds whose sides are disjoint and hold the rows they should."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import strategies as st

from neurobridge import splits
from tests.fuzz.campaign import Campaign, attempt
from tests.fuzz.strategies import IDS, NAMES, two_spaces

COUNTS = st.one_of(
    st.integers(2, 12),
    st.sampled_from([0, 1, -1, 2.0, 2.5, True, None, "3", np.int64(3), np.nan, 10**30, 400]),
)
SHARES = st.one_of(st.floats(0, 1), st.sampled_from([0.8, 0.5, 0, 1, -0.1, 1.5, np.nan, np.inf, None, "0.5", 3]))
SEEDS = st.one_of(st.integers(0, 9), st.sampled_from([-1, 2**32, 2**40, None, 1.5, "1", np.int64(3)]))


@st.composite
def columns(draw: st.DrawFn) -> Any:
    """A column of labels: of a few values, or of everything that people have in tables."""
    n = draw(st.integers(0, 12))
    few = st.sampled_from(
        [["a", "b"], [0, 1, 2], [0.0, 3.0, 6.0], ["a"], [True, False], ["a", None], [1.0, np.nan], [1, "1"]]
    )
    values = draw(st.lists(st.sampled_from(draw(few)), min_size=n, max_size=n) | st.lists(IDS, min_size=n, max_size=n))
    as_given = {
        "list": lambda: values,
        "object": lambda: np.array([*values, None], dtype=object)[:-1],
        "array": lambda: np.array(values),
        "Series": lambda: pd.Series(values, dtype=object),
        "Categorical": lambda: pd.Categorical(values),
        "masked": lambda: np.ma.masked_array(np.array(values), mask=np.arange(n) % 3 == 0),
        "two columns": lambda: np.array(values + values, dtype=object).reshape(2, n),
    }
    try:
        return as_given[draw(st.sampled_from(sorted(as_given)))]()
    except (TypeError, ValueError, UnicodeDecodeError):
        return values


def _options(**kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some options, each more often left out than given."""
    return st.fixed_dictionaries({}, optional=kinds)


ROWS = st.lists(st.integers(0, 11), max_size=4) | columns()
FEW = st.sampled_from([["a"], ["b"], [0], [1, 2], [3.0], [True], [], ["c"], "a", None, 0, [None], [np.nan]])
TEXTS = st.one_of(
    st.sampled_from(
        [
            "kfold",
            "kfold,n_splits=3",
            "kfold,label=object_name,n_splits=2",
            "stratified",
            "stratified,n_splits=2,train_size=0.5",
            "group,label=object_name",
            "condition,label=object_name,train=c0|c1,test=c2",
            "condition,label=repetition,train=0,test=1",
            "shuffle,n_splits=2",
            "brainscore",
        ]
    ),
    st.tuples(
        st.sampled_from([*splits.KINDS, "", "Kfold"]),
        st.sampled_from(["n_splits", "label", "train_size", "seed", "train", "test", "x", ""]),
        st.sampled_from(["=", "", "==", " = "]),
        st.one_of(COUNTS.map(str), NAMES, st.sampled_from(["0|3", "|", "c0"])),
    ).map(lambda words: f"{words[0]},{words[1]}{words[2]}{words[3]}"),
    st.text(max_size=12),
)
#: The call, what is drawn for it, and the number of rows that it parts.
ENTRANCES: dict[str, tuple[Callable[..., splits.Splits], st.SearchStrategy[Any], Callable[..., int]]] = {
    "splits.shuffle_splits": (
        lambda n, **o: splits.shuffle_splits(n, **o),
        st.tuples(COUNTS, _options(n_splits=COUNTS, train_size=SHARES, seed=SEEDS)),
        lambda n: int(n),
    ),
    "splits.kfold_splits": (
        lambda n, **o: splits.kfold_splits(n, **o),
        st.tuples(COUNTS, _options(n_splits=COUNTS, seed=SEEDS)),
        lambda n: int(n),
    ),
    "splits.kfold_splits on labels": (
        lambda column, **o: splits.kfold_splits(np.shape(column)[0], labels=column, **o),
        st.tuples(columns(), _options(n_splits=COUNTS, seed=SEEDS)),
        len,
    ),
    "splits.stratified_splits": (
        lambda column, **o: splits.stratified_splits(column, **o),
        st.tuples(columns(), _options(n_splits=COUNTS, train_size=SHARES, seed=SEEDS)),
        len,
    ),
    "splits.group_splits": (
        lambda column, **o: splits.group_splits(column, **o),
        st.tuples(columns(), _options(n_splits=COUNTS, seed=SEEDS)),
        len,
    ),
    "splits.stratified_group_splits": (
        lambda column, **o: splits.stratified_group_splits(np.arange(np.shape(column)[0]) % 2, column, **o),
        st.tuples(columns(), _options(n_splits=COUNTS, seed=SEEDS)),
        len,
    ),
    "splits.condition_splits": (
        lambda column, **o: splits.condition_splits(column, **{"train": ["a"], "test": ["b"], **o}),
        st.tuples(columns(), _options(train=FEW, test=FEW)),
        len,
    ),
    "splits.Splits": (
        lambda train, test, **o: splits.Splits([(train, test)], **o),
        st.tuples(ROWS, ROWS, _options(groups=columns())),
        lambda train, test: 10**9,
    ),
    "splits.splits_from_text": (
        lambda spaces, text: splits.splits_from_text(text, spaces[0]),
        st.tuples(two_spaces(), TEXTS),
        lambda spaces, text: spaces[0].sizes["presentation"],
    ),
    "splits.resolve_splits": (
        lambda spaces, given, **o: splits.resolve_splits(spaces[0], given, **o),
        st.tuples(
            two_spaces(),
            TEXTS | st.none() | COUNTS | st.lists(st.tuples(columns(), columns()), max_size=2),
            _options(stratify=NAMES, min_held_out=COUNTS),
        ),
        lambda spaces, given: spaces[0].sizes["presentation"],
    ),
    "splits.brainscore_splits": (
        lambda spaces: splits.brainscore_splits(spaces[0]),
        st.tuples(two_spaces()),
        lambda spaces: spaces[0].sizes["presentation"],
    ),
    "splits.animal_splits": (
        lambda spaces, **o: splits.animal_splits(spaces[0], **o),
        st.tuples(two_spaces(), _options(animal=NAMES)),
        lambda spaces: spaces[0].sizes["neuroid"],
    ),
}


@pytest.mark.parametrize("entrance", list(ENTRANCES))
def test_refused_or_parts(campaign: Campaign, entrance: str) -> None:
    call, strategy, count = ENTRANCES[entrance]

    def check(drawn: tuple[Any, ...]) -> None:
        given = drawn if not drawn or not isinstance(drawn[-1], dict) else drawn[:-1]
        options = {} if given is drawn else drawn[-1]
        with attempt():
            folds = call(*given, **options)
        n = count(*given)
        assert len(folds) > 0
        for train, test in folds:
            rows = np.concatenate([train, test])
            assert min(len(train), len(test)) > 0, "a side without rows"
            assert len(set(rows.tolist())) == len(rows), "a row is on both sides"
            assert rows.min() >= 0
            assert rows.max() < n
        if entrance.split()[0] == "splits.group_splits":
            names = np.array([str(label) for label in given[0]])
            assert all(not set(names[train]) & set(names[test]) for train, test in folds), "a group is on both sides"

    campaign.run(entrance, strategy, check)
