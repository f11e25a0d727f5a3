"""One entrance for all figures: the kind of what is given decides what is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from neurobridge.aligners import AssemblyAligner
from neurobridge.assemblies import average_repetitions
from neurobridge.assemblies.schema import NEUROID, PRESENTATION, REPETITION, STIMULUS_ID
from neurobridge.bridge import Coupling, FusedBridge
from neurobridge.evaluate import LayerChoice
from neurobridge.evaluate.decoding import confusion as mean_confusion
from neurobridge.evaluate.score.schema import is_score
from neurobridge.evaluate.similarity import rdm
from neurobridge.figures.analyses import ANALYSES, all_are
from neurobridge.figures.curves import is_learning_curve, layer_profile, learning_curve
from neurobridge.figures.flows import shrinkage, trajectories
from neurobridge.figures.layout import journal, new_axes
from neurobridge.figures.levels import accuracies, cells, null_distribution
from neurobridge.figures.matrices import confusion, dissimilarities, plan
from neurobridge.figures.models.comparison import compared_models
from neurobridge.figures.sitewise import paired, reliability, sites
from neurobridge.figures.stimuli import contact_sheet
from neurobridge.figures.styles import styles_of
from neurobridge.flow import ConditionalFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Stimuli of a matrix of an assembly, at most: the distances of more fill memory, and no page shows them.
_MOST_STIMULI = 2000


class Kind(NamedTuple):
    """A kind of result: its name, how it is told from others, and its figure."""

    name: str
    fits: Callable[[Any], bool]
    draw: Callable[..., Axes]


def _score_with(*dims: str) -> Callable[[Any], bool]:
    return lambda thing: is_score(thing) and tuple(thing["raw"].dims) == dims


def _array_with(*dims: str) -> Callable[[Any], bool]:
    return lambda thing: isinstance(thing, xr.DataArray) and tuple(thing.dims[: len(dims)]) == dims


def _plain_curves(thing: Any) -> bool:
    if not isinstance(thing, Mapping) or not thing:
        return False
    return all(isinstance(line, Sequence) and not isinstance(line, str) and len(line) == 2 for line in thing.values())


def _plot_aligner(aligner: AssemblyAligner, *, ax: Axes | None = None, title: str = "") -> Axes:
    coupling = getattr(aligner, "coupling_", None)
    if coupling is not None:
        return plan(coupling, ax=ax, title=title)
    return shrinkage(aligner, ax=ax, title=title)


def _plot_flow(flow: ConditionalFlow, *, ax: Axes | None = None, title: str = "") -> Axes:
    cloud, end = (flow.support_[direction].points for direction in ("backward", "forward"))
    return trajectories(flow, flow.source_scale_.backward(cloud), flow.target_scale_.backward(end), ax=ax, title=title)


def _plot_assembly(assembly: xr.DataArray, *, ax: Axes | None = None, title: str = "") -> Axes:
    return dissimilarities(rdm_of(assembly), ax=ax, title=title)


def rdm_of(assembly: xr.DataArray) -> xr.DataArray:
    """Compute the dissimilarities of an assembly: of one time bin, averaged over repetitions, evenly thinned to 2,000 stimuli.

    Raises
    ------
    AssemblyError
        More than one time bin, or an assembly that breaks the schema.
    """
    if assembly.ndim == 3 and assembly.shape[2] == 1:
        assembly = assembly.isel({assembly.dims[2]: 0})
    if REPETITION in assembly.coords or len(set(assembly[STIMULUS_ID].values.tolist())) < assembly.sizes[PRESENTATION]:
        assembly = average_repetitions(assembly)
    step = -(-assembly.sizes[PRESENTATION] // _MOST_STIMULI)
    return rdm(assembly.isel({PRESENTATION: slice(None, None, step)}))


def is_ceiling(thing: Any) -> bool:
    """Tell whether something is what `neurobridge.internal_consistency` returned: reliabilities by site and their median."""
    return (
        isinstance(thing, xr.Dataset)
        and {"median", "ceiling"} <= set(thing.data_vars)
        and thing["ceiling"].dims == (NEUROID,)
        and thing["median"].ndim == 0
    )


def is_decoding(thing: Any) -> bool:
    """Tell whether something is a Score with confusions of one cell."""
    return is_score(thing) and thing["p_value"].ndim == 0 and "confusion" in thing


def is_comparison(thing: Any) -> bool:
    """Tell whether something compares models: values on (metric, model), and corrected p-values of all pairs."""
    return (
        isinstance(thing, xr.Dataset)
        and {"value", "p_corrected"} <= set(thing.data_vars)
        and tuple(thing["value"].dims) == ("metric", "model")
    )


def _plot_comparison(comparison: xr.Dataset, *, ax: Axes | None = None, title: str = "") -> Axes:
    if comparison.sizes["metric"] == 1:
        return compared_models(comparison, ax=ax, title=title)
    n_rows = comparison.sizes["metric"] * comparison.sizes["model"]
    ax = new_axes(ax, size=(6.0, 1.2 + 0.3 * n_rows))
    styles = styles_of(map(str, comparison["model"].values))
    names: list[str] = []
    for metric in comparison["metric"].values:
        cell = comparison.sel(metric=metric).sortby("value", ascending=False)
        for model in cell["model"].values:
            value, low, high = (float(cell[key].sel(model=model)) for key in ("value", "value_low", "value_high"))
            bars = np.nan_to_num([[value - low], [high - value]]).clip(0)
            ax.errorbar(
                value, len(names), xerr=bars, capsize=2, **{**styles[str(model)], "linestyle": "none", "markersize": 5}
            )
            names.append(f"{model}, {metric}")
    ax.set_yticks(range(len(names)), labels=names)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlabel("score on held-out stimuli")
    ax.set_title(title)
    return ax


#: Kinds of results in the order in which they are tried.
KINDS: tuple[Kind, ...] = (
    Kind("learning curve", is_learning_curve, learning_curve),
    *(Kind(*analysis) for analysis in ANALYSES),
    Kind("ceiling", is_ceiling, reliability),
    Kind("layers", lambda thing: isinstance(thing, LayerChoice),
         lambda thing, **options: layer_profile({str(thing.scores.attrs.get("region", "region")): thing.scores}, **options)),
    Kind("layers", lambda thing: is_score(thing) and "layer" in thing["p_value"].dims and "layer" in thing.attrs,
         lambda thing, **options: layer_profile({str(thing.attrs.get("region", "region")): thing}, **options)),
    Kind("comparison of models", is_comparison, _plot_comparison),
    Kind("decoding", is_decoding, confusion),
    Kind("score by site", _score_with("split", NEUROID), sites),
    Kind("score", lambda thing: is_score(thing) and thing["p_value"].ndim == 0, null_distribution),
    Kind("scores of cells", is_score, cells),
    Kind("two methods", lambda thing: all_are(thing, _score_with("split", NEUROID)) and len(thing) == 2, paired),
    Kind("methods by site", lambda thing: all_are(thing, _score_with("split", NEUROID)), sites),
    Kind("decoding of methods", lambda thing: all_are(thing, is_decoding), accuracies),
    Kind("learning curve", _plain_curves, learning_curve),
    Kind("coupling", lambda thing: isinstance(thing, Coupling), plan),
    Kind("coupling", lambda thing: isinstance(thing, FusedBridge) and thing.coupling is not None,
         lambda thing, **options: plan(thing.coupling, **options)),
    Kind("aligner", lambda thing: isinstance(thing, AssemblyAligner), _plot_aligner),
    Kind("flow", lambda thing: isinstance(thing, ConditionalFlow), _plot_flow),
    Kind("dissimilarities", _array_with(PRESENTATION, f"{PRESENTATION}_2"), dissimilarities),
    Kind("confusion", _array_with("truth", "choice"), confusion),
    Kind("choices", _array_with(PRESENTATION, "choice"), lambda thing, **options: confusion(mean_confusion(thing), **options)),
    Kind("images", _array_with(PRESENTATION, "row", "column"), contact_sheet),
    Kind("assembly", _array_with(PRESENTATION, NEUROID), _plot_assembly),
)  # fmt: skip


def kind_of(thing: Any) -> Kind:
    """Return the kind of a result.

    Raises
    ------
    ValueError
        Nothing that has a figure.
    """
    for kind in KINDS:
        if kind.fits(thing):
            return kind
    shown = f"{type(thing).__name__} with dims {tuple(getattr(thing, 'dims', ()))}"
    raise ValueError(
        f"figures: found a {shown}; expected a Score, a mapping of methods to Scores, a learning curve, a Coupling, an aligner, a "
        "flow, dissimilarities, images or an assembly. Mend: figures.plot(nb.predictivity(source, target))."
    )


def plot(thing: Any, *, ax: Axes | None = None, style: str | None = None, title: str = "") -> Axes:
    """Draw whatever the package returns, in the figure of its kind.

    ================================================ ==========================================
    what is given                                    what is drawn
    ================================================ ==========================================
    what `neurobridge.learning_curve` returned       `learning_curve`
    a Score by site; a mapping of methods to such    `sites`; of two, `paired`
    a Score of decoding                              `confusion`
    another Score                                    `null_distribution`, `cells`
    what `neurobridge.select_layer` returned         `layer_profile`
    what `neurobridge.internal_consistency` returned `reliability`
    what `neurobridge.compare_models` returned       `compared_models`, or all metrics at once
    Scores with ``by="time_bin"``                    `time_courses`
    a Score of times of training and of test         `time_generalisation`
    a Score by number of sites                       `accuracy_by_sites`
    what `neurobridge.retrieve` returned             `retrieval`
    a partition of variance                          `variance_parts`
    models compared by their RDMs                    `rsa_models`
    a ceiling of decoding                            `accuracy_by_trials`
    a CommonSpace                                    `common_space`
    a Coupling, a fitted bridge                      `plan`
    an aligner                                       `plan`, without it `shrinkage`
    a flow                                           `trajectories`
    dissimilarities, an assembly                     `dissimilarities`
    images                                           `contact_sheet`
    ================================================ ==========================================

    Parameters
    ----------
    thing : object
    ax : matplotlib.axes.Axes, optional
        A new one by default.
    style : {"nature", "wide"}, optional
        Width and size of text of a journal, see `journal`.
    title : str
        By default what the figure of the kind says itself.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        Nothing that has a figure, or an unknown style.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge import figures
    >>> from neurobridge.bridge import bridge_cost, couple
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> ax = figures.plot(couple(bridge_cost(X, 2 * X, (np.arange(10), np.arange(10)))), style="nature")
    >>> ax.get_ylabel()
    'source point (40)'
    """
    with journal(style):
        return kind_of(thing).draw(thing, ax=ax, title=title)
