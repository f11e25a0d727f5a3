"""One colour, marker and line style a method, for every figure of the package and of the experiments."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle, islice
from typing import Any

#: Family of methods -> colour. They differ in lightness (CIE L* from 0 to 81, in steps of at least 3), so that they stay apart
#: in greyscale, and under simulated protanopia, deuteranopia and tritanopia (Machado, Oliveira & Fernandes 2009).
PALETTE: dict[str, str] = {
    "pls": "#000000",
    "keypoints": "#30106B",
    "relative": "#6B2E00",
    "ridge": "#0060B0",
    "cca": "#6E6E78",
    "unbalanced": "#7A7A34",
    "fused": "#E0560A",
    "procrustes": "#10A878",
    "fused-flow": "#D08FC0",
    "bridge": "#62BDF0",
    "pairs": "#F2C14E",
}
_DASHED, _SPARSE, _DASH_DOTS = (0, (6, 2)), (0, (1, 2)), (0, (3, 1, 1, 1))


def _style(family: str, marker: str, linestyle: Any, *, open_marker: bool = False) -> dict[str, Any]:
    """Return keyword arguments of a line; open markers tell the variants of a method from the method."""
    return {
        "color": PALETTE[family],
        "marker": marker,
        "linestyle": linestyle,
        **({"markerfacecolor": "white"} if open_marker else {}),
    }


#: Method -> keyword arguments of a matplotlib line. A variant of a method has its colour, and another marker and line style.
STYLES: dict[str, dict[str, Any]] = {
    # The compared methods of `neurobridge.study`.
    "fused": _style("fused", "o", "-"),
    "fused-flow": _style("fused-flow", "D", "-"),
    "bridge": _style("bridge", "p", _DASHED, open_marker=True),
    "bridge-flow": _style("bridge", "P", "--"),
    "unbalanced": _style("unbalanced", "<", _DASH_DOTS, open_marker=True),
    "pairs-flow": _style("pairs", "s", "--"),
    "ridge": _style("ridge", "^", "-."),
    "procrustes": _style("procrustes", "v", ":"),
    "pls": _style("pls", "x", "--"),
    "cca": _style("cca", "+", "-."),
    "relative": _style("relative", "*", ":"),
    "keypoints": _style("keypoints", "h", "-."),
    "self-trained": _style("procrustes", "^", "--", open_marker=True),
    "whitened": _style("procrustes", "d", "-"),
    "spectral": _style("ridge", "P", _DASHED, open_marker=True),
    "fugw": _style("unbalanced", ">", "--"),
    # Criteria and readouts of the fused bridge.
    "fused, retrieval": _style("fused", "D", "--", open_marker=True),
    "fused, labels": _style("fused", "s", _DASHED, open_marker=True),
    "fused, error": _style("fused", "v", ":", open_marker=True),
    "fused on arrays": _style("fused", "^", "-.", open_marker=True),
    # Variants of the bridge.
    "bridge, euclidean": _style("bridge", "s", "--", open_marker=True),
    "bridge, kernel readout": _style("bridge", "D", "-.", open_marker=True),
    "rho 0.03": _style("unbalanced", "P", "-", open_marker=True),
    "rho 0.1": _style("unbalanced", "X", "--", open_marker=True),
    "rho 1": _style("unbalanced", "<", _DASH_DOTS, open_marker=True),
    "rho 10": _style("unbalanced", "h", ":", open_marker=True),
    "unpaired": _style("unbalanced", "8", _SPARSE),
    # The pairs alone.
    "pairs": _style("pairs", "o", "-", open_marker=True),
    "pairs, kernel readout": _style("pairs", "^", ":", open_marker=True),
    "kernel ridge": _style("ridge", "d", "--", open_marker=True),
    "ridge, mixed pairs": _style("ridge", "v", ":", open_marker=True),
    # Labels in the place of pairs.
    "logistic": _style("procrustes", "X", "--"),
    "kNN": _style("cca", "1", ":"),
    "end to end": _style("pls", "d", "--"),
    "end to end, augmented": _style("pls", "D", "--", open_marker=True),
}
#: Look of the line of chance, the same in every figure.
CHANCE: dict[str, Any] = {"color": "0.5", "linestyle": "--", "linewidth": 1}
#: Look of the line of the ceiling, the same in every figure.
CEILING: dict[str, Any] = {"color": "black", "linestyle": ":", "linewidth": 1}
# Without a meaning of their own: regions, models, methods that the table does not know. Neighbours differ in colour, marker and
# line.
_SPARE_FAMILIES = ("keypoints", "fused", "bridge", "ridge", "procrustes", "pairs", "relative", "fused-flow")
_SPARE_LOOKS = (("s", "-", False), ("o", _DASHED, True), ("^", "--", True), ("D", ":", False))
_SPARES = [
    _style(family, marker, linestyle, open_marker=open_marker)
    for turn in range(len(_SPARE_LOOKS))
    for number, family in enumerate(_SPARE_FAMILIES)
    for marker, linestyle, open_marker in (_SPARE_LOOKS[(number + turn) % len(_SPARE_LOOKS)],)
]


def styles_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the line style of each name, no two the same.

    A method of `STYLES` always has the style that stands there, in any spelling of upper and lower case, and with a metric
    behind a comma. Other names get spare styles in their order.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    dict of str to dict
        Keyword arguments of `matplotlib.axes.Axes.plot`.

    Examples
    --------
    >>> from neurobridge.figures import STYLES, styles_of
    >>> styles = styles_of(["ridge", "IT", "V4"])
    >>> styles["ridge"] == STYLES["ridge"], styles["IT"] != styles["V4"]
    (True, True)
    """
    names = list(dict.fromkeys(map(str, names)))
    spares = cycle(_SPARES)
    out: dict[str, dict[str, Any]] = {}
    known = {name.lower(): style for name, style in STYLES.items()}
    whole = {name: known[name.lower()] for name in names if name.lower() in known}
    for name in names:
        first_word = name.lower().partition(",")[0].strip()
        style = whole.get(name, known.get(first_word))
        used = [*out.values(), *(other for key, other in whole.items() if key != name)]
        if style is None or style in used:
            style = next((spare for spare in islice(spares, len(_SPARES)) if spare not in used), None) or next(spares)
        out[name] = dict(style)
    return out
