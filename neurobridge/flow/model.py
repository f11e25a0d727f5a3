"""Conditional flow matching between two spaces of any dimensions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator

from neurobridge.flow.bases import BASES, MAPS, Base, PointMap, StandardisedMap, VelocityField
from neurobridge.flow.fitting import FieldTrainer, PairSampler, as_pair, base_maps, base_name, is_base, show_base
from neurobridge.flow.moved import FlatSettings
from neurobridge.flow.networks import NetworkFactory
from neurobridge.flow.ode import ODE
from neurobridge.flow.settings import Training
from neurobridge.flow.storage import Fitted, network_of, pack_flow, read_flow, unpack_flow, write_flow
from neurobridge.flow.transport import Transport
from neurobridge.points.arrays import as_points
from neurobridge.points.devices import find_device
from neurobridge.points.display import html_repr, short_repr
from neurobridge.points.memory import check_memory, named_shortage
from neurobridge.points.options import require_options
from neurobridge.points.scale import Standardiser, standardised
from neurobridge.points.support import Support
from neurobridge.store.kinds import register

_TRAINING, _ODE = Training(), ODE()
_SHORTAGE = "fit on fewer points, or a smaller Training(batch_size=...)"


@register("conditional-flow")
class ConditionalFlow(FlatSettings, Transport, BaseEstimator):
    """Transport between two spaces by a flow trained on a coupling.

    A velocity field ``v(t, x_t | c)`` is regressed on ``x_1 - x_0`` along straight paths between coupled points: the
    loss of equation 9 of Lipman et al. 2023 (arXiv 2210.02747) on the path of equations 14 and 15 of Tong et al. 2024
    (arXiv 2302.00482), with (x_0, x_1) drawn from the coupling.

    Parameters
    ----------
    base : {"affine", "pad", "noise"}, callable, or tuple of two callables
        Where a path starts:

        - "affine": at ``M x``, M the ridge map of the labelled pairs, in the target's space and conditioned on x.
        - "pad": at x padded with zeros to the larger dimension.
        - "noise": at a Gaussian sample, conditioned on x, so that each source point has a distribution of images.
        - A fitted map, such as the ``map`` of a `FusedBridge` or a `KernelMap`, of points (n, n_source_dims) to
          (n, n_target_dims): at the map's image, without a condition, so that the flow moves the cloud of images onto
          the target's.
        - Two maps, (forward, backward): the same, for transport in both directions.
    training : Training
        How the velocity network is trained.
    ode : ODE
        How transport integrates.
    support_quantile : float
        A transported point is off the support if it is further from its nearest training point than this quantile of
        the same distance among the training points; in (0, 1].
    seed : int
        Of draws, weights, times and noise.
    device : str, optional
        None for "cpu".
    **flat
        Deprecated: fields of `Training` and `ODE`, as version 0.1 took them.

    Attributes
    ----------
    losses_, validation_losses_ : arrays of shape (n_steps_done,) and (n_validations,)
        Of the forward field.
    resumed_at_ : dict of str to int
        Step of the checkpoint that each direction continued from, 0 for none.
    support_ : dict of str to Support
        The target cloud ("forward") and the source cloud ("backward").
    source_scale_, target_scale_ : Standardiser
    forward_, backward_ : VelocityField
        ``backward_`` is None for "pad", whose forward field is run backward in time, and for a base of one map.
    n_evaluations_ : int
        Evaluations of the velocity along the longest trajectory of the last transport of an in-memory array.

    Notes
    -----
    As in sklearn, arguments are stored as they are and checked by `fit`; `Training` and `ODE` check theirs when they
    are made. ``set_params(training__n_steps=100)`` replaces the settings object by a changed copy. Keyword arguments
    and attributes of version 0.1 (``n_steps=100``) work with a DeprecationWarning.

    Examples
    --------
    >>> import numpy as np
    >>> from neurobridge.bridge import bridge_cost, couple
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3))
    >>> Y = X @ rng.normal(size=(3, 4))
    >>> pairs = np.arange(20), np.arange(20)
    >>> coupling = couple(bridge_cost(X, Y, pairs))
    >>> flow = ConditionalFlow("affine", training=Training(n_steps=20, width=16)).fit(X, Y, coupling)
    >>> flow  # doctest: +ELLIPSIS
    ConditionalFlow('affine', 3 -> 4 dims, trained for 20 steps, final loss ...)
    >>> flow.transport(X).shape
    (60, 4)
    """

    def __init__(
        self,
        base: Base | PointMap | tuple[PointMap, PointMap] = "affine",
        *,
        training: Training = _TRAINING,
        ode: ODE = _ODE,
        support_quantile: float = 0.99,
        seed: int = 0,
        device: str | None = None,
        **flat: Any,
    ) -> None:
        self.base = base
        self.training = training
        self.ode = ode
        self.support_quantile = support_quantile
        self.seed = seed
        self.device = device
        if flat:
            self._take_flat(flat)

    def set_params(self, **params: Any) -> ConditionalFlow:
        """Set parameters of the flow, or single settings of `training` and `ode`.

        Parameters
        ----------
        **params
            By name, as ``seed=1`` or ``training__n_steps=100``.

        Returns
        -------
        ConditionalFlow
            Itself.

        Raises
        ------
        ValueError
            An unknown name, or a setting of `Training` or `ODE` out of range.

        Examples
        --------
        >>> ConditionalFlow().set_params(training__n_steps=100, ode__method="rk4")
        ConditionalFlow('affine', not fitted, Training(n_steps=100), ODE(method=rk4))
        """
        nested: dict[str, dict[str, Any]] = {}
        plain: dict[str, Any] = {}
        for key, value in params.items():
            name, _, setting = key.partition("__")
            if setting and name in ("training", "ode"):
                nested.setdefault(name, {})[setting] = value
            else:
                plain[key] = value
        super().set_params(**plain)
        for name, changes in nested.items():
            setattr(self, name, getattr(self, name).replace(**changes))
        return self

    def check_settings(self) -> None:
        """Refuse parameters that `fit` could not use.

        Raises
        ------
        TypeError
            ``training`` or ``ode`` is of another class.
        ValueError
            An unknown base, a quantile out of range, or minibatch re-coupling from noise.

        Examples
        --------
        >>> ConditionalFlow("linear").check_settings()
        Traceback (most recent call last):
        ValueError: found base 'linear'; expected one of ('affine', 'pad', 'noise'), a map, or two maps (forward, ...
        """
        if not is_base(self.base):
            raise ValueError(
                f"found base {show_base(self.base)}; expected one of {BASES}, a map, or two maps (forward, backward). "
                "Mend: choose one of them."
            )
        for name, expected in (("training", Training), ("ode", ODE)):
            if not isinstance(getattr(self, name), expected):
                raise TypeError(
                    f"found {name} of type {type(getattr(self, name)).__name__}; expected {expected.__name__}. "
                    f"Mend: {name}={expected.__name__}(...), from neurobridge.flow."
                )
        require_options(support_quantile=self.support_quantile, seed=self.seed)
        if not 0 < self.support_quantile <= 1:
            raise ValueError(
                f"found support_quantile={self.support_quantile}; expected in (0, 1]. Mend: support_quantile=0.99."
            )
        if self.training.minibatch_ot and self.base == "noise":
            raise ValueError(
                "found minibatch_ot=True with base='noise'; expected False: re-coupling would tie the noise to the "
                "condition, and transport draws it independently. Mend: minibatch_ot=False, or base='affine'."
            )

    def fit(self, X: Any, Y: Any, coupling: PairSampler) -> ConditionalFlow:
        """Train on pairs drawn from a coupling.

        Parameters
        ----------
        X : array of shape (n, n_source_dims)
        Y : array of shape (m, n_target_dims)
            The points the coupling was solved for; numpy, torch, or dask (read a block of rows at a time).
        coupling : Coupling
            Offers ``sample(n, rng)`` and ``anchors``.

        Returns
        -------
        ConditionalFlow
            Itself, fitted.

        Raises
        ------
        FloatingPointError
            The loss became non-finite.
        FlowFileError
            The checkpoint folder holds another run.
        TypeError
            ``training`` or ``ode`` is of another class, the network is no module, or ``coupling`` draws no pairs.
        ValueError
            Arrays that are not finite matrices, of another size than the coupling, or parameters out of range.
        """
        self.check_settings()
        X, Y = as_points(X, "X"), as_points(Y, "Y")
        if not callable(getattr(coupling, "sample", None)):
            raise TypeError(
                f"coupling: found {type(coupling).__name__}, which draws no pairs; expected a Coupling. "
                "Mend: neurobridge.bridge.couple(cost), or neurobridge.bridge.Coupling.of_pairs(pairs, (n, m))."
            )
        shape = getattr(coupling, "shape", (len(X), len(Y)))
        if tuple(shape) != (len(X), len(Y)):
            sizes = f"{len(X)} source and {len(Y)} target points for a coupling of shape {tuple(shape)}"
            raise ValueError(f"found {sizes}; expected those it was solved for. Mend: pass them, in the same order.")
        with named_shortage(f"a flow between {len(X)} + {len(Y)} points", _SHORTAGE):
            return self._fit(X, Y, coupling)

    def _fit(self, X: Any, Y: Any, coupling: PairSampler) -> ConditionalFlow:
        scales = Standardiser.fit(X), Standardiser.fit(Y)
        n_state = max(X.shape[1], Y.shape[1])
        # Standardised points, their starts and ends, and those of the second field.
        needed = 4.0 * (3 * len(X) + 2 * len(Y)) * n_state
        check_memory(needed, math.inf, f"a flow between {len(X)} + {len(Y)} points", mend=_SHORTAGE)
        source, target = standardised(X, scales[0]), standardised(Y, scales[1])
        support = {
            "forward": Support.fit(target, quantile=self.support_quantile, seed=self.seed),
            "backward": Support.fit(source, quantile=self.support_quantile, seed=self.seed),
        }
        forward_map, backward_map = base_maps(self.base, X, Y, coupling, scales)
        trainer = FieldTrainer(
            base_name(self.base),
            self.training,
            self.seed,
            find_device("cpu" if self.device is None else self.device),
            self.ode.chunk_size,
        )

        def swapped(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            rows, columns = coupling.sample(n, rng)
            return columns, rows

        forward, record = trainer.fit(source, target, forward_map, coupling.sample, "forward")
        resumed_at = {"forward": record.resumed_at}
        # A padded flow is its own inverse, run backward in time. The other bases condition on where they start, so
        # backward transport needs a second field, trained on the same coupling with the roles exchanged.
        backward: VelocityField | None = None
        if self.base in ("affine", "noise") or backward_map is not None:
            backward, backward_record = trainer.fit(target, source, backward_map, swapped, "backward")
            resumed_at["backward"] = backward_record.resumed_at
        self.source_scale_, self.target_scale_ = scales
        self.support_ = support
        self.forward_, self.backward_ = forward, backward
        self.losses_, self.validation_losses_ = record.losses, record.validation_losses
        self.resumed_at_ = resumed_at
        return self

    def save(self, folder: str | Path) -> Path:
        """Write the fitted flow into a folder: ``flow.json`` and the safetensors file it names, replaced in one step.

        Parameters
        ----------
        folder : path
            Made if missing; may hold other files.

        Returns
        -------
        Path
            Of ``flow.json``.

        Raises
        ------
        FlowNotFittedError
            The flow has not been fitted.

        Examples
        --------
        ``flow.save("kept/flow")``, then ``ConditionalFlow.load("kept/flow")``.
        """
        return write_flow(Path(folder), *self._parts())

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        network: NetworkFactory | None = None,
        base: PointMap | tuple[PointMap, PointMap] | None = None,
        device: str | None = None,
    ) -> ConditionalFlow:
        """Read a flow that was saved.

        Parameters
        ----------
        folder : path
        network : callable, optional
            ``Training.network`` of the flow, where that was not the default: code is not kept on disk.
        base : map or tuple of two maps, optional
            Base of the flow, where that was maps other than `LinearMap` and `KernelMap`, which are kept.
        device : str, optional

        Returns
        -------
        ConditionalFlow
            A fitted flow.

        Raises
        ------
        FlowFileError
            Missing or damaged files, another format version, shapes that do not fit, or code that is not given.
        """
        maps = None if base is None else as_pair(base)
        place = torch.device(device or "cpu")
        return cls._of(*read_flow(Path(folder), network=network, maps=maps, device=place), device)

    def to_state(self) -> dict[str, Any]:
        """Return the flow as it goes to disk within an aligner: as in `save`, and a base of maps that have a kind."""
        tensors, header = pack_flow(*self._parts())
        return {"header": header, "tensors": tensors, "base": None if isinstance(self.base, str) else self.base}

    @classmethod
    def from_state(cls, state: dict[str, Any], given: Mapping[str, Any]) -> ConditionalFlow:
        """Build a flow from its state on disk; a network is taken from ``given["flow_options"]``.

        Raises
        ------
        FlowFileError
            Shapes do not fit, or the network was not given.
        """
        device = given.get("device")
        tensors = {name: tensor.cpu() for name, tensor in state["tensors"].items()}
        maps = None if state["base"] is None else as_pair(state["base"])
        fitted, params = unpack_flow(
            tensors, state["header"], "flow",
            network=network_of(given.get("flow_options") or {}), maps=maps, device=torch.device(device or "cpu"),
        )  # fmt: skip
        return cls._of(fitted, params, device)

    def _parts(self) -> tuple[Fitted, dict[str, Any]]:
        self._check_fitted()
        fitted = Fitted(
            self.source_scale_, self.target_scale_, self.support_, self.forward_, self.backward_, self.losses_
        )
        return fitted, self.get_params(deep=False) | {"base": base_name(self.base)}

    @classmethod
    def _of(cls, fitted: Fitted, params: dict[str, Any], device: str | None) -> ConditionalFlow:
        if params["base"] == MAPS:
            fields = (fitted.forward, fitted.backward)
            kept = [f.base_map.point_map for f in fields if f and isinstance(f.base_map, StandardisedMap)]
            params = {**params, "base": kept[0] if len(kept) == 1 else tuple(kept)}
        flow = cls(**params, device=device)
        flow.source_scale_, flow.target_scale_, flow.support_ = fitted.source_scale, fitted.target_scale, fitted.support
        flow.forward_, flow.backward_, flow.losses_ = fitted.forward, fitted.backward, fitted.losses
        return flow

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"base": show_base(self.base)}
        if not self._is_fitted():
            return facts | {"fitted": "no", "training": repr(self.training), "ode": repr(self.ode)}
        facts["dims"] = f"{self.forward_.n_start} -> {self.forward_.n_end}"
        return facts | {"steps": len(self.losses_), "final loss": float(self.losses_[-1])}

    def __repr__(self) -> str:
        facts = self._facts()
        if not self._is_fitted():
            settings = [text for text in (facts["training"], facts["ode"]) if not text.endswith("()")]
            return short_repr("ConditionalFlow", facts["base"], "not fitted", *settings)
        trained = f"trained for {facts['steps']} steps", f"final loss {facts['final loss']:.4g}"
        return short_repr("ConditionalFlow", facts["base"], f"{facts['dims']} dims", *trained)

    def _repr_html_(self) -> str:
        return html_repr("ConditionalFlow", self._facts())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        # A notebook asks for this first, and sklearn's would show a diagram of parameters.
        return {"text/plain": repr(self), "text/html": self._repr_html_()}
