"""Tables of captions: read from a file, or written from templates with a seed."""

from __future__ import annotations

import os
import string
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from neurobridge.assemblies import AssemblyError, read_table
from neurobridge.assemblies.labels import present_labels
from neurobridge.assemblies.schema import STIMULUS_ID
from neurobridge.points.options import require_count

CAPTION = "caption"
TEMPLATES = (
    "{a}",
    "a photo of {a}",
    "a picture that shows {a}",
    "an image of {a}",
    "a close view of {a}",
    "a small picture of {a}",
    "here we see {a}",
    "there is {a} in the picture",
    "what is shown is {a}",
    "someone photographed {a}",
)
_FIELDS = {"label", "a"}


def read_captions(
    captions: pd.DataFrame | Mapping[str, Any] | Sequence[str] | str | os.PathLike[str],
) -> pd.DataFrame:
    """Read a table of captions.

    Parameters
    ----------
    captions : table, sequence of str, or path of a csv file
        A table has the columns ``stimulus_id`` and ``caption``; others are kept. A stimulus may have several captions. A
        sequence of captions gets the ids ``caption-0000``, ``caption-0001``, ... All ids are text.

    Returns
    -------
    pandas.DataFrame
        With ``stimulus_id`` and ``caption``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AssemblyError
        A column is missing, or an id or a caption is empty.

    Examples
    --------
    >>> read_captions(["a cat", "two kittens"])["stimulus_id"].tolist()
    ['caption-0000', 'caption-0001']
    """
    if isinstance(captions, (str, os.PathLike)):
        if not Path(captions).is_file():
            raise FileNotFoundError(
                f"found no file at {captions}; expected a csv table with {STIMULUS_ID} and {CAPTION}. Mend: check the path; give a "
                "single caption as a list, ['a cat']."
            )
        table = read_table(captions, what="captions", numbers=False)
    elif isinstance(captions, (pd.DataFrame, Mapping)):
        try:
            table = pd.DataFrame(captions).reset_index(drop=True)
        except ValueError as error:
            raise AssemblyError(
                f"captions: found columns that make no table ({error}); expected columns of one length. Mend: one row a caption."
            ) from error
    else:
        if isinstance(captions, bytes) or not isinstance(captions, Iterable):
            raise AssemblyError(
                f"captions: found {type(captions).__name__}; expected a table, a list of texts, or the path of a csv file. "
                "Mend: e.g. ['a cat', 'two kittens']."
            )
        texts = list(captions)
        ids = [f"caption-{k:04d}" for k in range(len(texts))]
        table = pd.DataFrame({STIMULUS_ID: ids, CAPTION: texts})
    missing = [name for name in (STIMULUS_ID, CAPTION) if name not in table]
    if missing:
        raise AssemblyError(
            f"captions: found columns {[str(name) for name in table]}; expected {STIMULUS_ID} and {CAPTION}. Mend: rename them."
        )
    if table.empty:
        raise AssemblyError("captions: found none; expected at least one. Mend: give one a stimulus.")
    for name in (STIMULUS_ID, CAPTION):
        table[name] = present_labels(table[name], name=name, role="captions", mend="fill them or drop the rows").astype(
            str
        )
    return table


def captions_from_templates(
    labels: Sequence[Any] | npt.ArrayLike,
    templates: Sequence[str] | Mapping[Any, Sequence[str]] = TEMPLATES,
    *,
    names: Mapping[Any, str | Sequence[str]] | None = None,
    n_captions: int | None = None,
    stimulus_id: Sequence[str] | npt.ArrayLike | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Write captions of classes, worded in several ways.

    Parameters
    ----------
    labels : sequence
        The classes; with `stimulus_id`, the class of each stimulus.
    templates : sequence of str, or mapping of label to sequence of str
        With the fields ``{label}`` (the class's name) or ``{a}`` (the name after "a", or "an" before a, e, i, o, u).
    names : mapping of label to str or sequence of str, optional
        What a class is called ("3" -> "three"); of several names each caption draws one. Default: the label itself.
    n_captions : int, optional
        Captions a class (or a stimulus), different ones; default: one a template, or a single one with `stimulus_id`.
    stimulus_id : sequence of str, optional
        Caption these stimuli, each by its own draw; default: ids ``<label>-00``, ``<label>-01``, ... of the captions.
    seed : int
        Of the choice of templates and names.

    Returns
    -------
    pandas.DataFrame
        ``stimulus_id``, ``caption``, ``category_name`` (the label as text) and ``template``.

    Raises
    ------
    AssemblyError
        No label or template, a label without template or twice, a template without its field, or more captions than there
        are wordings.

    Examples
    --------
    >>> captions_from_templates(["3", "8"], ["the digit {label}", "{a}"], names={"3": "three", "8": "eight"})["caption"].tolist()
    ['the digit three', 'a three', 'the digit eight', 'an eight']
    """
    classes = _texts(labels, "label")
    ids = None if stimulus_id is None else _texts(stimulus_id, STIMULUS_ID)
    if not classes:
        raise AssemblyError("captions: found no labels; expected at least one. Mend: labels=['cat', 'dog'].")
    if ids is not None and len(ids) != len(classes):
        raise AssemblyError(
            f"captions: found {len(classes)} labels and {len(ids)} stimulus ids; expected one label a stimulus. "
            "Mend: index the labels by the stimuli."
        )
    if ids is None and len(set(classes)) < len(classes):
        raise AssemblyError(
            "captions: found a label twice; expected each class once. Mend: give stimulus_id to caption stimuli, or numpy.unique."
        )
    if n_captions is not None:
        require_count(n_captions, name="n_captions", error=AssemblyError)
    require_count(seed, name="seed", at_least=0, error=AssemblyError)
    wordings = {label: _wordings(label, templates, names) for label in dict.fromkeys(classes)}
    rng = np.random.default_rng(seed)
    rows = []
    for k, label in enumerate(classes):
        choices = wordings[label]
        n_templates = len({template for template, _ in choices})
        n = n_captions if n_captions is not None else (1 if ids is not None else n_templates)
        if not 1 <= n <= len(choices):
            raise AssemblyError(
                f"captions: found a request for {n} captions of {label!r}, which can be worded in {len(choices)} ways; expected "
                "between 1 and that. Mend: give more templates or names."
            )
        # Each template once before any comes again with another name.
        order = rng.permutation(len(choices))
        drawn = pd.Series([choices[i][0] for i in order])
        rank = drawn.groupby(drawn).cumcount().to_numpy()
        chosen = order[np.argsort(rank, kind="stable")][:n]
        for number, choice in enumerate(chosen):
            template, name = choices[choice]
            stimulus = ids[k] if ids is not None else f"{label}-{number:02d}"
            rows.append((stimulus, _fill(template, name), label, template))
    return pd.DataFrame(rows, columns=[STIMULUS_ID, CAPTION, "category_name", "template"])


def _texts(column: Any, name: str) -> list[str]:
    """Return the values of a column as text, none of them missing."""
    return [str(value) for value in present_labels(column, name=name, role="captions").ravel().tolist()]


def _wordings(
    label: str,
    templates: Sequence[str] | Mapping[Any, Sequence[str]],
    names: Mapping[Any, str | Sequence[str]] | None,
) -> list[tuple[str, str]]:
    label_templates = (
        {str(key): value for key, value in templates.items()}.get(label)
        if isinstance(templates, Mapping)
        else templates
    )
    label_names = {str(key): value for key, value in (names or {}).items()}.get(label, label)
    words, kept = _strings(label_names, f"name of {label!r}"), _strings(label_templates, f"template of {label!r}")
    if not kept or not words:
        raise AssemblyError(
            f"captions: found {len(kept)} templates and {len(words)} names for {label!r}; expected at least one of each. "
            "Mend: add them, or leave the argument out."
        )
    for template in kept:
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        except ValueError:
            # A brace that is not closed.
            fields = []
        if not fields or not set(fields) <= _FIELDS:
            raise AssemblyError(
                f"captions: found the template {template!r} with the fields {fields}; expected {{label}} or {{a}}. "
                "Mend: e.g. 'a photo of {a}'."
            )
    return [(template, word) for template in dict.fromkeys(kept) for word in dict.fromkeys(words)]


def _strings(given: Any, what: str) -> list[str]:
    """Return one text or several as a list."""
    texts = [given] if isinstance(given, str) else list(given) if isinstance(given, (Sequence, np.ndarray)) else None
    if given is not None and (texts is None or not all(isinstance(text, str) for text in texts)):
        raise AssemblyError(
            f"captions: found {given!r:.60} as {what}; expected text, or a list of texts. Mend: str(...) of what is no text."
        )
    return texts or []


def _fill(template: str, name: str) -> str:
    article = "an" if name[:1].lower() in tuple("aeiou") else "a"
    return template.format(label=name, a=f"{article} {name}")
