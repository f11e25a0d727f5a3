"""The forms of ids: as text by one rule, and the forms in which those of two sides match."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from neurobridge.assemblies.errors import AssemblyError
from neurobridge.assemblies.labels import plain


def id_texts(ids: npt.ArrayLike, *, name: str = "ids") -> np.ndarray:
    """Return ids as text, by the one rule of the package.

    Text stays as it is; an integer is its digits; a whole number that is stored with a fraction, as programs without integers
    do, is the digits of the integer; another number is its shortest decimal; a missing id is the empty text.

    Parameters
    ----------
    ids : array-like of shape (n,)
    name : str
        Name of the ids in messages.

    Returns
    -------
    array of str, shape (n,)

    Raises
    ------
    AssemblyError
        The ids are no labels (see `plain`).

    Examples
    --------
    >>> id_texts([7, 12]).tolist(), id_texts([7.0, 0.5, None]).tolist(), id_texts(["007", "a.png"]).tolist()
    (['7', '12'], ['7', '0.5', ''], ['007', 'a.png'])
    """
    values = plain(ids, name=name)
    if values.dtype.kind == "U":
        return values
    if values.dtype.kind == "f":
        whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**63)
        texts = [
            "" if value != value else str(int(value)) if is_whole else str(value)
            for value, is_whole in zip(values.ravel().tolist(), whole.ravel().tolist(), strict=True)
        ]
        return np.array(texts, dtype=str).reshape(values.shape)
    if values.dtype.kind in "Mm":
        return np.where(np.isnat(values), "", values.astype(str))
    return values.astype(str)


#: Endings of the names of files of stimuli.
EXTENSION = r"\.(?i:png|jpe?g|bmp|gif|tiff?|webp|ppm|pgm|jp2|avif|npy|mat|wav|flac|mp3|ogg|aiff?|mp4|avi|mov|mkv|txt)$"
_INVISIBLE = r"[\u00ad\u200b-\u200f\u2060\ufeff]"


class Form(NamedTuple):
    """A form that texts are brought to.

    Attributes
    ----------
    what : str
        What then differs no more.
    apply : callable
        Gives the form of a text.
    call : str
        The same, behind a DataArray or a Series.
    """

    what: str
    apply: Callable[[str], str]
    call: str


#: Forms of ids by name: what ``neurobridge import --ids`` and `read_recordings` bring them to.
ID_FORMS: dict[str, Form] = {
    "nfc": Form("Unicode form (NFC or NFD)", lambda text: unicodedata.normalize("NFC", text), '.str.normalize("NFC")'),
    "strip": Form("spaces at the ends", str.strip, ".str.strip()"),
    "casefold": Form("capital letters", str.casefold, ".str.casefold()"),
    "nfkc": Form(
        "characters that look alike (NFKC)",
        lambda text: unicodedata.normalize("NFKC", text),
        '.str.normalize("NFKC")',
    ),
    "visible": Form(
        "invisible characters",
        lambda text: re.sub(_INVISIBLE, "", text),
        f'.str.replace("{_INVISIBLE}", "", regex=True)',
    ),
    "stem": Form(
        "the file extension",
        lambda text: re.sub(EXTENSION, "", text),
        f'.str.replace(r"{EXTENSION}", "", regex=True)',
    ),
    "name": Form(
        "the folder before the file name",
        lambda text: re.sub(r"^.*[/\\]", "", text),
        r'.str.replace(r"^.*[/\\]", "", regex=True)',
    ),
}


def in_form(ids: npt.ArrayLike, forms: Sequence[str]) -> np.ndarray:
    """Return ids as text, brought to some forms one after the other.

    Parameters
    ----------
    ids : array of shape (n,)
    forms : sequence of str
        Keys of `ID_FORMS`.

    Returns
    -------
    array of str, shape (n,)

    Examples
    --------
    >>> in_form(["images/A.PNG", "b.jpg"], ("name", "stem", "casefold")).tolist()
    ['a', 'b']
    """
    texts = id_texts(ids).tolist()
    for form in forms:
        texts = [ID_FORMS[form].apply(text) for text in texts]
    return np.array(texts, dtype=str)


def normalized_ids(ids: npt.ArrayLike, forms: Sequence[str]) -> np.ndarray:
    """Return ids in some forms as `in_form` does; refused where different ids would become one.

    Raises
    ------
    AssemblyError
        A form is unknown, or ids would become one.
    """
    unknown = [form for form in forms if form not in ID_FORMS]
    if unknown or not forms:
        raise AssemblyError(
            f"ids: found the form {unknown[0] if unknown else ''!r}; expected some of {', '.join(ID_FORMS)}. Mend: 'stem' for ids "
            "without file extensions (--ids stem)."
        )
    before = id_texts(ids)
    after = in_form(before, forms)
    n_before, n_after = len(set(before.tolist())), len(set(after.tolist()))
    if n_after < n_before:
        raise AssemblyError(
            f"ids: found {n_before} stimuli, and {n_after} ids in the form {', '.join(forms)}; expected as many, as different "
            "stimuli "
            "would become one. Mend: another form, or rename those stimuli."
        )
    return after


def without_extension(ids: npt.ArrayLike) -> np.ndarray | None:
    """Return ids without their file extensions; None where none has one, or where two would become one.

    Examples
    --------
    >>> without_extension(["a.png", "b.v2.JPG"]).tolist(), without_extension(["a", "b.2"]), without_extension(["a.png", "a.jpg"])
    (['a', 'b.v2'], None, None)
    """
    texts = id_texts(ids)
    stems = in_form(texts, ("stem",))
    if (stems == texts).all() or len(set(stems.tolist())) < len(set(texts.tolist())):
        return None
    return stems
