"""One line style a method, for every figure of the package and of the experiments."""

from __future__ import annotations

from typing import Any

_WHITE = {"markerfacecolor": "white"}
#: Method -> keyword arguments of a matplotlib line. Colours of Okabe & Ito (safe for colour blindness); markers and dashes keep
#: the lines apart in greyscale. Variants of a method have its colour and another marker.
STYLES: dict[str, dict[str, Any]] = {
    # The compared methods of `neurobridge.study`.
    "fused": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "fused-flow": {"color": "#CC79A7", "marker": "D", "linestyle": "-"},
    "bridge": {"color": "#56B4E9", "marker": "p", "linestyle": (0, (6, 2)), **_WHITE},
    "bridge-flow": {"color": "#56B4E9", "marker": "P", "linestyle": "--"},
    "unbalanced": {"color": "#B8860B", "marker": "<", "linestyle": (0, (3, 1, 1, 1)), **_WHITE},
    "pairs-flow": {"color": "#E69F00", "marker": "s", "linestyle": "--"},
    "ridge": {"color": "#0072B2", "marker": "^", "linestyle": "-."},
    "procrustes": {"color": "#009E73", "marker": "v", "linestyle": ":"},
    "pls": {"color": "#000000", "marker": "x", "linestyle": "--"},
    "cca": {"color": "#7F7F7F", "marker": "+", "linestyle": "-."},
    "relative": {"color": "#8C510A", "marker": "*", "linestyle": ":"},
    "keypoints": {"color": "#542788", "marker": "h", "linestyle": "-."},
    "self-trained": {"color": "#009E73", "marker": "^", "linestyle": "--", **_WHITE},
    "whitened": {"color": "#009E73", "marker": "d", "linestyle": "-"},
    "spectral": {"color": "#0072B2", "marker": "P", "linestyle": (0, (6, 2)), **_WHITE},
    "fugw": {"color": "#B8860B", "marker": "s", "linestyle": "--"},
    # Variants of the bridge.
    "bridge, euclidean": {"color": "#56B4E9", "marker": "s", "linestyle": "--", **_WHITE},
    "bridge, kernel readout": {"color": "#56B4E9", "marker": "D", "linestyle": "-.", **_WHITE},
    "rho 0.03": {"color": "#B8860B", "marker": "P", "linestyle": "-", **_WHITE},
    "rho 0.1": {"color": "#B8860B", "marker": "X", "linestyle": "--", **_WHITE},
    "rho 1": {"color": "#B8860B", "marker": "<", "linestyle": (0, (3, 1, 1, 1)), **_WHITE},
    "rho 10": {"color": "#B8860B", "marker": "h", "linestyle": ":", **_WHITE},
    # The pairs alone.
    "pairs": {"color": "#E69F00", "marker": "o", "linestyle": "-", **_WHITE},
    "pairs, kernel readout": {"color": "#E69F00", "marker": "^", "linestyle": ":", **_WHITE},
    # Labels in the place of pairs.
    "logistic": {"color": "#009E73", "marker": "X", "linestyle": "--"},
    "kNN": {"color": "#7F7F7F", "marker": "1", "linestyle": ":"},
    "end to end": {"color": "#000000", "marker": "d", "linestyle": "--"},
    "end to end, augmented": {"color": "#000000", "marker": "D", "linestyle": "--", **_WHITE},
}
