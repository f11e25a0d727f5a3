"""Where numbers come from: digests with the licences of their datasets, references, versions, and the methods in a paragraph."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr

from neurobridge._version import __version__
from neurobridge.aligners import AssemblyAligner, BridgeAligner
from neurobridge.datasets import list_datasets
from neurobridge.figures.dispatch import is_ceiling, is_comparison
from neurobridge.study.pages.parts import Table

#: Key -> BibTeX of the works behind the numbers of a page.
REFERENCES: dict[str, str] = {
    "gholamzadeh2025": """@article{gholamzadeh2025,
  title = {Model alignment using inter-modal bridges},
  author = {Gholamzadeh, Ali and Sajid, Noor},
  journal = {arXiv preprint arXiv:2505.12322}, year = {2025}
}""",
    "schrimpf2018": """@article{schrimpf2018,
  title = {Brain-Score: Which artificial neural network for object recognition is most brain-like?},
  author = {Schrimpf, Martin and Kubilius, Jonas and Hong, Ha and Majaj, Najib J. and Rajalingham, Rishi and Issa, Elias B. and
    Kar, Kohitij and Bashivan, Pouya and Prescott-Roy, Jonathan and Geiger, Franziska and Schmidt, Kailyn and Yamins, Daniel L. K.
    and DiCarlo, James J.},
  journal = {bioRxiv}, year = {2018}, doi = {10.1101/407007}
}""",
    "phipson2010": """@article{phipson2010,
  title = {Permutation P-values should never be zero: calculating exact P-values when permutations are randomly drawn},
  author = {Phipson, Belinda and Smyth, Gordon K.},
  journal = {Statistical Applications in Genetics and Molecular Biology}, volume = {9}, number = {1}, year = {2010},
  doi = {10.2202/1544-6115.1585}
}""",
    "spearman1910": """@article{spearman1910,
  title = {Correlation calculated from faulty data},
  author = {Spearman, Charles},
  journal = {British Journal of Psychology}, volume = {3}, pages = {271--295}, year = {1910}
}""",
    "brown1910": """@article{brown1910,
  title = {Some experimental results in the correlation of mental abilities},
  author = {Brown, William},
  journal = {British Journal of Psychology}, volume = {3}, pages = {296--322}, year = {1910}
}""",
    "kriegeskorte2008": """@article{kriegeskorte2008,
  title = {Representational similarity analysis -- connecting the branches of systems neuroscience},
  author = {Kriegeskorte, Nikolaus and Mur, Marieke and Bandettini, Peter},
  journal = {Frontiers in Systems Neuroscience}, volume = {2}, pages = {4}, year = {2008}, doi = {10.3389/neuro.06.004.2008}
}""",
}


def digests_of(things: Iterable[Any]) -> dict[str, str]:
    """Gather the digests of files that results name: file -> digest."""
    out: dict[str, str] = {}
    for thing in things:
        attrs = (
            thing.attrs if isinstance(thing, xr.Dataset | xr.DataArray) else thing if isinstance(thing, Mapping) else {}
        )
        for holder in (attrs, attrs.get("run", {}) if isinstance(attrs.get("run", {}), Mapping) else {}):
            given = holder.get("digests")
            if isinstance(given, str):
                try:
                    given = json.loads(given)
                except ValueError:
                    given = None
            if isinstance(given, Mapping):
                out |= {str(name): str(digest) for name, digest in given.items()}
    return out


def provenance(digests: Mapping[str, str]) -> tuple[list[Table], list[str]]:
    """Return the table of files with their datasets and licences, and the BibTeX of the datasets."""
    known = {digest: manifest for manifest in list_datasets() for file in manifest.files for digest in file.digests}
    rows, citations = [], {}
    for name, digest in sorted(digests.items()):
        manifest = known.get(digest)
        rows.append(
            [
                name,
                digest,
                *(("not in the catalogue", "not known") if manifest is None else (manifest.name, manifest.licence)),
            ]
        )
        if manifest is not None:
            citations[manifest.name] = manifest.citation.strip()
    tables = [Table("Files", ["file", "digest", "dataset", "licence"], rows)] if rows else []
    return tables, list(dict.fromkeys(citations.values()))


def versions(things: Iterable[Any]) -> list[tuple[str, str]]:
    """Return the versions of this process, and those that wrote the results."""
    written = {
        str(thing.attrs["version"]) for thing in things if isinstance(thing, xr.Dataset) and "version" in thing.attrs
    }
    by_hand = [("results written by neurobridge", ", ".join(sorted(written)))] if written else []
    return [
        *by_hand, ("page written by neurobridge", __version__), ("python", platform.python_version()), ("numpy", np.__version__),
        ("xarray", xr.__version__), ("matplotlib", mpl.__version__),
    ]  # fmt: skip


def methods(things: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Write the methods of results as a paragraph each, and return them with the BibTeX of what they cite."""
    paragraphs: dict[str, None] = {}
    for thing in things:
        if isinstance(thing, AssemblyAligner):
            paragraphs[_aligner_methods(thing)] = None
        elif is_comparison(thing):
            paragraphs[_comparison_methods(thing)] = None
        elif isinstance(thing, xr.Dataset) and "metric" in thing.attrs:
            paragraphs[_score_methods(thing)] = None
    texts = list(paragraphs)
    cited = [key for key in REFERENCES if any(re.search(rf"\b{key}\b", text) for text in texts)]
    if texts:
        texts.append(f"All numbers were computed with neurobridge {__version__}.")
    return texts, [REFERENCES[key] for key in cited]


def _aligner_methods(aligner: AssemblyAligner) -> str:
    n_pairs = len(aligner.pairs_[0]) if isinstance(aligner.pairs_, tuple) else len(aligner.pairs_)
    text = (
        f"A {type(aligner).__name__} was fitted on {n_pairs} stimuli known in both spaces "
        f"({len(aligner.source_scale_.mean)} source and {len(aligner.target_scale_.mean)} target dimensions, each in its standard "
        f"deviations), with seed {aligner.seed}."
    )
    if isinstance(aligner, BridgeAligner):
        text += (
            f" Spaces were joined by the bridge cost over these pairs (metric {aligner.metric!r}), coupling "
            f"{aligner.coupling!r}, map {aligner.map!r} [gholamzadeh2025]."
        )
        if aligner.coupling == "fused":
            text += f" Settings were chosen by cross-validation over the pairs for {aligner.criterion!r}."
    return text


def _comparison_methods(comparison: xr.Dataset) -> str:
    attrs, names = comparison.attrs, ", ".join(map(str, comparison["model"].values))
    metrics = ", ".join(map(str, comparison["metric"].values))
    text = (
        f"The models {names} were compared on the same held-out stimuli ({attrs.get('n_stimuli', 'unknown')} stimuli, "
        f"{attrs.get('splits', 'splits not stated')}) under {metrics}. Layers were chosen on the training stimuli alone."
    )
    if int(attrs.get("n_bootstrap", 0)):
        text += (
            f" Intervals and p-values of paired differences come from {int(attrs['n_bootstrap'])} draws of stimuli and sites with "
            f"replacement, the same ones for all models; p-values are corrected for all pairs ({attrs.get('correction')})."
        )
    if re.search(r"\brdm|\brsa", metrics):
        text += " Dissimilarity matrices are compared as in representational similarity analysis [kriegeskorte2008]."
    return text + f" Seed {attrs.get('seed')}."


def _score_methods(score: xr.Dataset) -> str:
    attrs = score.attrs
    n = ", ".join(map(str, np.ravel(attrs.get("n_stimuli", "unknown")).tolist()))
    if "n_pairs" in score.dims and "aligner" in score.dims:
        counts = ", ".join(str(int(k)) for k in score["n_pairs"].values)
        names = ", ".join(map(str, score["aligner"].values))
        text = (
            f"Aligners ({names}) were fitted on {counts} pairs of stimuli, in {score.sizes['seed']} independent draws "
            f"({attrs.get('splits')}; unpaired training stimuli: {attrs.get('unpaired', 'not stated')}). "
            f"The transported responses to {n} held-out stimuli were correlated with the recorded ones (Pearson), site by "
            "site; the score is the median over sites."
        )
        if any(
            str(name).startswith(("fused", "bridge", "pairs-flow", "unbalanced")) for name in score["aligner"].values
        ):
            text += " Bridges follow [gholamzadeh2025]."
    elif is_ceiling(score):
        text = (
            f"The reliability of each site is the correlation of two halves of its repetitions over {n} stimuli, mean of "
            f"{attrs.get('n_splits')} random halvings, extrapolated to all repetitions [spearman1910, brown1910]."
        )
    else:
        text = f"The metric {attrs['metric']!r} was computed on {n} stimuli ({attrs.get('splits')})."
        if "p_corrected" in score:
            text += (
                f" All {score.sizes['model']} models have the same folds and the same {attrs.get('n_bootstrap')} draws of stimuli "
                "and sites; layers are chosen on training stimuli; p is corrected for the pairs of models "
                f"({attrs.get('correction')})."
            )
        elif "neuroid" in score["raw"].dims:
            text += " Scores of sites are reduced by the median over sites and the mean over splits [schrimpf2018]."
        if re.search(r"\brdm|\brsa", str(attrs["metric"])):
            text += (
                " Dissimilarity matrices are compared as in representational similarity analysis [kriegeskorte2008]."
            )
    if int(attrs.get("n_permutations", 0)):
        text += (
            f" Chance is the distribution under {int(attrs['n_permutations'])} permutations of the stimuli; "
            "p is one-sided and counts the observed value [phipson2010]."
        )
    if attrs.get("normalization") and bool(score["normalized"].notnull().any()):
        rule = str(attrs["normalization"]).replace("_", " ")
        text += f" Scores are normalised by the rule {rule!r} with the ceilings given."
    return text + f" Seed {attrs.get('seed')}."


def notes_on(things: Iterable[Any]) -> list[str]:
    """Return what a reader has to be warned of in the results themselves."""
    out = []
    for thing in things:
        if isinstance(thing, xr.Dataset) and "metric" in thing.attrs:
            metric = thing.attrs["metric"]
            low = int(thing.attrs.get("n_ceilings_not_positive", 0))
            if low:
                out.append(
                    f"{metric}: {low} site(s) have a ceiling that is not above zero; they have no normalised score."
                )
            undefined = int(thing["raw"].isnull().sum()) if "raw" in thing else 0
            if undefined:
                out.append(f"{metric}: {undefined} of {thing['raw'].size} raw values are not defined (NaN).")
            permutations = int(thing.attrs.get("n_permutations", 0))
            if 0 < permutations < 19:
                out.append(f"{metric}: {permutations} permutations cannot reach p = .05.")
        coupling = getattr(thing, "coupling_", thing)
        if getattr(coupling, "converged", True) is False:
            out.append(f"The solver of the plan did not converge: marginal error {coupling.marginal_error:.1e}.")
    return list(dict.fromkeys(out))
