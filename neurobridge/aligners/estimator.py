"""Estimator protocol of scikit-learn for aligners: fitted state apart from parameters, tags, files, representations."""

from __future__ import annotations

import inspect
from abc import ABC
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError

from neurobridge.aligners.storage import (
    NAME,
    AlignerFileError,
    KeptAligner,
    read_aligner,
    same_value,
    snapshot,
    write_aligner,
)
from neurobridge.points.display import LIMIT, html_repr
from neurobridge.points.options import KINDS, require_options
from neurobridge.store.kinds import HOMES, class_of, kind_of, name_of, upgraded
from neurobridge.store.state import named_damage

Self = TypeVar("Self", bound="AlignerEstimator")

#: Fitted attributes that files of version 0.1 hold under another name.
RENAMED_STATE: Mapping[str, str] = {
    "_anchors": "anchors_",
    "_decoders": "decoders_",
    "_maps": "maps_",
    "_means": "means_",
    "_n_dims": "n_dims_",
    "_n_out": "n_dims_out_",
    "_train": "training_",
    "_ways": "maps_",
}


class AlignerNotFittedError(NotFittedError, RuntimeError):
    """An aligner was asked to map before `fit`, or after parameters were set that its fit did not have."""


class AlignerEstimator(TransformerMixin, BaseEstimator, ABC, auto_wrap_output_keys=None):  # type: ignore[call-arg]
    """Base of `AssemblyAligner` and of `CommonSpace`: everything that does not concern points.

    Fitted state is what scikit-learn takes for it: attributes whose name ends with an underscore. Other attributes that
    are no parameters belong to scikit-learn and are left alone.
    """

    def fit_transform(self, source: Any, target: Any, pairs: Any = None) -> Any:
        """Fit, then map the source: ``fit(source, target, pairs).transform(source)``.

        Parameters
        ----------
        source, target, pairs
            As `fit` takes them.

        Returns
        -------
        xarray.DataArray, or array of shape (n_source, n_target_dims)

        Raises
        ------
        AssemblyError
            As `fit` does.

        Examples
        --------
        >>> import numpy as np
        >>> from neurobridge.aligners import RidgeAligner
        >>> X = np.random.default_rng(0).normal(size=(40, 3))
        >>> RidgeAligner().fit_transform(X, X[:, :2]).shape
        (40, 2)
        """
        return self.fit(source, target, pairs).transform(source)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Wrapped by scikit-learn, `transform` would not take its argument by name.
        super().__init_subclass__(**{"auto_wrap_output_keys": None, **kwargs})

    def save(self, folder: str | Path) -> Path:
        """Write the fitted aligner into a folder: ``aligner.json`` and the files it names, replaced in one step.

        Kept are the parameters, the pairs, the labels of both spaces and all that `transform` and `inverse_transform`
        need, bit by bit. Nothing is pickled; code is not kept (see `load`), nor is ``device``.

        Parameters
        ----------
        folder : path
            Made if missing; may hold other files.

        Returns
        -------
        Path
            Of ``aligner.json``.

        Raises
        ------
        AlignerNotFittedError
            The aligner has not been fitted, or not with the parameters it now has.
        AlignerFileError
            The fitted state holds something that is not arrays, text and numbers.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from neurobridge.aligners import RidgeAligner
        >>> X = np.random.default_rng(0).normal(size=(30, 3))
        >>> aligner = RidgeAligner().fit(X, 2 * X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = aligner.save(folder)
        ...     loaded = RidgeAligner.load(folder)
        >>> path.name
        'aligner.json'
        >>> bool((loaded.transform(X) == aligner.transform(X)).all())
        True
        """
        self._check_fitted()
        params = {name: value for name, value in self.get_params(deep=False).items() if name != "device"}
        kind = name_of(type(self))
        version = 1 if kind is None else kind_of(kind).version
        kept = KeptAligner(kind or type(self).__name__, version, params, self._state_to_save())
        return write_aligner(Path(folder), kept)

    @classmethod
    def load(cls: type[Self], folder: str | Path, *, device: str | None = None, **params: Any) -> Self:
        """Read an aligner that was saved; ``AssemblyAligner.load`` reads any kind, a subclass its own.

        Parameters
        ----------
        folder : path
        device : str, optional
            Where to map, for aligners that have this parameter.
        **params
            Parameters that are code, which is not kept on disk: a metric given as a function, ``flow_options`` with a
            network.

        Returns
        -------
        AssemblyAligner
            Fitted; maps as the saved one, bit by bit on the same machine.

        Raises
        ------
        AlignerFileError
            Missing or damaged files, another format version or class, shapes that do not fit, or code that was not given.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> from neurobridge.aligners import AssemblyAligner, PLSAligner
        >>> X = np.random.default_rng(0).normal(size=(30, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = PLSAligner(n_components=2).fit(X, 2 * X).save(folder)
        ...     AssemblyAligner.load(folder)
        PLSAligner(n_components=2)
        """
        where = Path(folder)
        kept = read_aligner(where, lambda kind: _class_of(kind, cls, where), params, device)
        kind = _class_of(kept.kind, cls, where)
        with named_damage(str(where / f"{NAME}.json"), AlignerFileError):
            aligner = kind._of_kept(kept, where, device)
            aligner._try_out()
        return aligner

    @classmethod
    def _of_kept(cls: type[Self], kept: KeptAligner, where: Path, device: str | None) -> Self:
        """Build the aligner of what was read from a folder."""
        values, state = dict(kept.params), dict(kept.state)
        if name_of(cls) is not None:
            state = upgraded(kind_of(kept.kind), kept.version, state)
        if "device" in cls._get_param_names():
            values["device"] = device
        if unknown := sorted(set(values) - set(cls._get_param_names())):
            raise AlignerFileError(
                f"{where}: found parameters {unknown}; expected some of {sorted(cls._get_param_names())} of {cls.__name__}. "
                "Mend: load it with the neurobridge that wrote it, or fit again."
            )
        # Parameters that are newer than the file have their defaults.
        aligner = cls(**values)
        for name, value in state.items():
            setattr(aligner, RENAMED_STATE.get(name, name), value)
        aligner._mark_fitted()
        return aligner

    def _try_out(self) -> None:
        """Map a point of either space, which a damaged state does not survive; raises whatever it runs into."""

    def to_state(self) -> dict[str, Any]:
        """Return parameters and fitted attributes, as they are kept where an aligner is a part of something else."""
        params = {name: value for name, value in self.get_params(deep=False).items() if name != "device"}
        return params | (self._state_to_save() if self.__sklearn_is_fitted__() else {})

    @classmethod
    def from_state(cls: type[Self], state: Mapping[str, Any], given: Mapping[str, Any]) -> Self:
        """Build the aligner of what `to_state` gave."""
        names = set(cls._get_param_names())
        device = {"device": given.get("device")} if "device" in names else {}
        aligner = cls(**{name: value for name, value in state.items() if name in names}, **device)
        fitted = {name: value for name, value in state.items() if name not in names}
        for name, value in fitted.items():
            setattr(aligner, name, value)
        if fitted:
            aligner._mark_fitted()
        return aligner

    def _state(self) -> dict[str, Any]:
        """Return the fitted attributes by name."""
        params = self.get_params(deep=False)
        return {
            name: value
            for name, value in vars(self).items()
            if name.endswith("_") and not name.startswith("__") and name not in params
        }

    def _state_to_save(self) -> dict[str, Any]:
        """Return the fitted attributes that go to disk: all of them, unless a subclass needs fewer to map."""
        return {name: value for name, value in self._state().items() if name != "fitted_params_"}

    def _forget_fit(self) -> None:
        """Remove the fitted state, so that a fit that fails half-way leaves no aligner that maps with the old one."""
        for name in self._state():
            delattr(self, name)

    def _check_options(self) -> None:
        """Refuse parameters that are not of their kind, before anything is read."""
        params = self.get_params(deep=False)
        require_options(**{name: value for name, value in params.items() if name in KINDS})
        if not 0 < self.support_quantile <= 1:
            raise ValueError(f"found support_quantile={self.support_quantile}; expected in (0, 1]. Mend: use 0.99.")

    def _mark_fitted(self) -> None:
        self.fitted_params_ = snapshot(self.get_params(deep=False))

    def _is_served(self, name: str, fitted: Any, now: Any) -> bool:
        """Tell if the fitted state serves a parameter that was set after fitting; subclasses name theirs."""
        return False

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "fitted_params_")

    def _check_fitted(self) -> None:
        if not hasattr(self, "fitted_params_"):
            raise self._not_fitted(f"found a {type(self).__name__} that is not fitted; expected a fitted one")
        for name, now in self.get_params(deep=False).items():
            fitted = self.fitted_params_[name]
            if not same_value(fitted, now) and not self._is_served(name, fitted, now):
                raise AlignerNotFittedError(
                    f"found {name}={now!r}, set after fitting with {fitted!r}; expected the parameters of the fit, which would "
                    "have come out differently. Mend: call fit again, or set it back."
                )

    def _not_fitted(self, facts: str) -> AlignerNotFittedError:
        given = ", ".join(list(inspect.signature(self.fit).parameters)[:3])
        return AlignerNotFittedError(f"{facts}. Mend: call fit({given}) first.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        # Read by scikit-learn before 1.6, which has no __sklearn_tags__.
        return {"requires_y": True, "multioutput": True, "multioutput_only": True}

    def __repr__(self, N_CHAR_MAX: int = 300) -> str:
        text = super().__repr__(N_CHAR_MAX=N_CHAR_MAX)
        if len(text) <= LIMIT:
            return text
        # Deep indentation of nested options is not counted by scikit-learn.
        text = " ".join(text.split())
        return text if len(text) <= LIMIT else f"{text[: LIMIT - 4]}...)"

    def _facts(self) -> dict[str, Any]:
        """Return what the HTML representation shows: the parameters that were changed, then facts of the fit."""
        defaults = inspect.signature(type(self).__init__).parameters
        params = self.get_params(deep=False)
        changed = {name: value for name, value in params.items() if not same_value(value, defaults[name].default)}
        return {**changed, "fitted": self.__sklearn_is_fitted__()}

    def _repr_html_(self) -> str:
        return html_repr(type(self).__name__, self._facts())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        # Notebooks ask for this first.
        return {"text/plain": repr(self), "text/html": self._repr_html_()}


def _class_of(kind: str, cls: type[Self], where: Path) -> type[Self]:
    """Return the class of a saved aligner, which must be ``cls`` or one of its subclasses.

    Raises
    ------
    AlignerFileError
        It is another class, or one that nothing has imported.
    """
    matches = [class_of(kind)] if kind in HOMES else [c for c in _with_subclasses(cls) if c.__name__ == kind]
    for match in matches:
        if issubclass(match, cls):
            return match
    expected = sorted({name_of(c) or c.__name__ for c in _with_subclasses(cls)})
    raise AlignerFileError(
        f"{where}: found a {kind!r}; expected one of {expected}. Mend: neurobridge.aligners.load(folder) reads any kind, after "
        "importing the module that defines it."
    )


def _with_subclasses(cls: type[Self]) -> list[type[Self]]:
    return [cls, *(kind for child in cls.__subclasses__() for kind in _with_subclasses(child))]
