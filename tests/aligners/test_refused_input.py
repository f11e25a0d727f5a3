"""What an aligner refuses: input that is no pair of assemblies, options that nothing honours, other neuroids."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from neurobridge.aligners import BridgeAligner, RidgeAligner
from neurobridge.assemblies import AssemblyError, Pairs

BAD_INPUT = {
    "no shared stimulus": (
        lambda s, t: (s, t.assign_coords(stimulus_id=("presentation", [f"x{i}" for i in range(120)])), None),
        "'s0'.*'x0'",
    ),
    "repeated": (
        lambda s, t: (s.isel(presentation=[0, 1, 1]), t, None),
        "source: .* 1 duplicate .*'s1'",
    ),
    "NaN": (lambda s, t: (s, t.where(t.max() > t), None), "target: .* 1 NaN"),
    "constant": (
        lambda s, t: (s * xr.DataArray([1, 1, 0, 1], dims="neuroid"), t, None),
        "source: .* 1 neuroid.*'v2'.*drop_constant",
    ),
    "one pair": (
        lambda s, t: (s, t, Pairs(np.array(["s1"]), np.array(["s1"]))),
        "pairs: .* 1.* 2",
    ),
    "unknown pair": (
        lambda s, t: (s, t, Pairs(np.array(["s1", "nope"]), np.array(["s1", "s2"]))),
        "pairs: .* 1 source .*'nope'",
    ),
    "fraction": (lambda s, t: (s, t, 1.5), r"1\.5.*\(0, 1\]"),
    "list": (lambda s, t: (s, t, [1, 2]), "pairs: .*list"),
    "array": (lambda s, t: (s.values, t, None), "source: .*ndarray.*DataArray"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case, linear_spaces):
    make, message = BAD_INPUT[case]
    with pytest.raises(AssemblyError, match=message):
        RidgeAligner().fit(*make(*linear_spaces))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": "spline"}, "map 'spline'.*'barycentric', 'flow', 'linear'"),
        ({"coupling": "none"}, "coupling 'none'.*'fused'"),
        ({"cost": "cubic"}, "cost 'cubic'.*'bridge', 'linear'"),
        (
            {"cost": "linear", "coupling": "pairs"},
            "coupling='pairs'.*'fused', 'sinkhorn'",
        ),
        ({"cost": "linear", "coupling": "factored"}, "cost='linear'.*coupling='factored'"),
        (
            {"cost": "linear", "coupling": "exact", "nearest": 3},
            "nearest=3.*coupling='exact', cost='linear'",
        ),
        ({"unbalanced": 1.0, "reduce": "min"}, r"reduce='min', unbalanced=1\.0.*coupling='fused'"),
        ({"metric": "precomputed"}, "metric='precomputed'"),
        ({"coupling": "factored", "criterion": "error"}, r"criterion='error'.*coupling='factored'.*'fused'"),
        ({"criterion": "accuracy"}, "criterion 'accuracy'.*'correlation', 'error', 'retrieval', 'labels'"),
        (
            {"criterion": "labels", "labels": "digit", "classifier": len},
            r"labels='digit'.*'layer'|labels='digit'.*'stimulus_id'",
        ),
        ({"criterion": "labels", "labels": [0, 1], "classifier": len}, r"labels: .*\(2,\).*\(120,\)"),
        ({"criterion": "labels", "labels": "stimulus_id"}, r"classifier=None"),
        ({"labels": "stimulus_id"}, r"criterion='correlation'.*criterion='labels'"),
        ({"coupling": "factored", "epsilon": 0.0}, r"epsilon=0\.0"),
        ({"epsilon": 0.0}, r"epsilons=\(0\.0,\)"),
        ({"support_quantile": 0.0}, r"support_quantile=0\.0.*\(0, 1\]"),
    ],
)
def test_options_that_nothing_honours_are_refused(options, message, linear_spaces):
    with pytest.raises(ValueError, match=message):
        BridgeAligner(**options).fit(*linear_spaces)


def test_other_neuroids_are_refused(linear_spaces):
    source, target = linear_spaces
    with pytest.raises(RuntimeError, match="RidgeAligner"):
        RidgeAligner().transform(source)
    fitted = RidgeAligner().fit(source, target)
    with pytest.raises(AssemblyError, match=r"source: .* 4 neuroids .*'v3'"):
        fitted.transform(source.isel(neuroid=[3, 2, 1, 0]))
