"""Conditional flow matching between two spaces of any dimensions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

from neurobridge.flow.bases import BASES, MAPS, Base, Between, PointMap, Way
from neurobridge.flow.networks import NetworkFactory, build_network
from neurobridge.flow.ode import SOLVERS
from neurobridge.flow.path import MinibatchCost, squared_distance
from neurobridge.flow.state import Training
from neurobridge.flow.storage import SAVED, Fitted, read_flow, write_flow
from neurobridge.flow.train import Draw, Problem, Trained, train
from neurobridge.flow.transport import Direction, Transport
from neurobridge.maps.linear import ridge_map
from neurobridge.points.arrays import as_points, pad_to, read_blocks, read_rows
from neurobridge.points.scale import Standardiser, standardised
from neurobridge.points.support import Support


class PairSampler(Protocol):
    """What a flow needs of a coupling."""

    @property
    def anchors(self) -> tuple[np.ndarray, np.ndarray]:
        """Source and target rows of the labelled pairs."""

    def sample(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n (source row, target row) pairs."""


class ConditionalFlow(Transport):
    """Transport between two spaces by a flow trained on a coupling.

    A velocity field ``v(t, x_t | c)`` is regressed on ``x_1 - x_0`` along straight paths between coupled points.

    Parameters
    ----------
    base : {"affine", "pad", "noise"}, callable, or tuple of two callables
        Where a path starts. "affine": at ``M x``, M the ridge map of the labelled pairs, in the target's space and
        conditioned on x. "pad": at x padded with zeros to the larger dimension. "noise": at a Gaussian sample,
        conditioned on x, so that each source point has a distribution of images. A fitted map, as the ``map`` of a
        `FusedBridge` or a `KernelMap`, of points (n, n_source_dims) to (n, n_target_dims): at the map's image, without a
        condition, so that the flow moves the cloud of images onto the target's; two maps, (forward, backward), for a way
        back as well.
    width, depth : int, optional
        Size of the velocity network; None for `neurobridge.flow.default_size`.
    network : callable, optional
        ``network(n_dims, n_condition)`` gives the module to train, called as ``module(t, x, condition)`` with t of shape
        (batch, 1), x of shape (batch, n_dims) and condition of shape (batch, n_condition), or None where n_condition is 0.
        None for `neurobridge.flow.VelocityMLP`.
    n_steps : int, optional
        Steps of training; None for 500 where the base is a map, and 1000 otherwise.
    batch_size, learning_rate, weight_decay : training of the network with AdamW and a cosine schedule.
    sigma : float, optional
        Width of the path, in standard deviations of the target; None for 0.5 where the base is a map, which then keeps
        each image near where it was, and 0.1 otherwise.
    ema : float
        Decay of the moving average of the weights that is kept for transport.
    clip : float
        Largest norm of the gradient.
    validation : float
        Share of the source rows whose draws are kept for validation, looked at before the first step and every
        ``validate_every`` steps. The averaged weights that did best are kept, and training stops after ``patience`` looks
        without a better one; where training never betters the untrained field, points stay at their base. An affine flow is
        judged by where it takes them, the others by the loss. 0 trains on all draws for ``n_steps``. The affine base itself
        is fitted on all pairs.
    patience, validate_every : int
    minibatch_ot : bool
        Re-solve optimal transport exactly inside each minibatch drawn along the coupling, between starts and ends.
    minibatch_cost : callable, optional
        ``cost(x_0, x_1)`` of shape (batch, batch) for that; None for the squared distance of start and end.
    mixed_precision : bool or "float16", optional
        Train in bfloat16 where torch deems it safe, or in float16 with a scaled loss, for GPUs that lack the other; None for
        bfloat16 on a GPU only.
    method : {"euler", "midpoint", "rk4", "dopri5"}
        How transport integrates; ``ode_steps`` equal steps, or within ``rtol`` and ``atol`` for "dopri5".
    ode_steps : int
    rtol, atol : float
    chunk_size : int
        Points moved at a time; bounds the memory of transport.
    support_quantile : float
        A transported point is off the support if it is further from its nearest training point than this quantile of the
        same distance among the training points.
    checkpoint : path, optional
        Folder that keeps the state of training, every ``checkpoint_every`` steps and at the end.
    checkpoint_every : int
    resume : bool
        Go on from what the folder holds (refused if it is of another run); False begins anew over it.
    seed : int
    device : str, optional
    progress : bool
        Show a progress bar with the loss.

    Attributes
    ----------
    losses_, validation_losses_ : arrays of shape (n_steps_done,) and (n_validations,)
        Of the forward field.
    resumed_at_ : dict of str to int
        Step of the checkpoint that each direction went on from, 0 for none.
    support_ : dict of str to Support
        The target cloud ("forward") and the source cloud ("backward").
    n_evaluations_ : int
        Evaluations of the velocity along the longest trajectory of the last transport of an in-memory array.
    """

    def __init__(
        self,
        base: Base | PointMap | tuple[PointMap, PointMap] = "affine",
        *,
        width: int | None = None,
        depth: int | None = None,
        network: NetworkFactory | None = None,
        n_steps: int | None = None,
        batch_size: int = 256,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        sigma: float | None = None,
        ema: float = 0.99,
        clip: float = 1.0,
        validation: float = 0.0,
        patience: int = 10,
        validate_every: int = 50,
        minibatch_ot: bool = False,
        minibatch_cost: MinibatchCost | None = None,
        mixed_precision: bool | Literal["float16"] | None = None,
        method: str = "midpoint",
        ode_steps: int = 16,
        rtol: float = 1e-6,
        atol: float = 1e-6,
        chunk_size: int = 16384,
        support_quantile: float = 0.99,
        checkpoint: str | Path | None = None,
        checkpoint_every: int = 500,
        resume: bool = True,
        seed: int = 0,
        device: str | None = None,
        progress: bool = False,
    ) -> None:
        if not _is_base(base):
            raise ValueError(
                f"found base {_shown(base)}; expected one of {BASES}, a map, or two maps (forward, backward). "
                "Mend: choose one of them."
            )
        if method not in SOLVERS:
            raise ValueError(f"found method {method!r}; expected one of {list(SOLVERS)}. Mend: choose one of them.")
        if not 0 < support_quantile <= 1:
            raise ValueError(f"found support_quantile={support_quantile}; expected in (0, 1]. Mend: use 0.99.")
        if mixed_precision not in (None, True, False, "float16"):
            raise ValueError(
                f"found mixed_precision={mixed_precision!r}; expected True, False, 'float16' or None. Mend: leave it out."
            )
        if minibatch_ot and base == "noise":
            raise ValueError(
                "found minibatch_ot=True with base='noise'; expected False: re-coupling would tie the noise to the condition, and "
                "transport draws it independently. Mend: minibatch_ot=False, or base='affine'."
            )
        self.base = base
        self.width = width
        self.depth = depth
        self.network = network
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.sigma = sigma
        self.ema = ema
        self.clip = clip
        self.validation = validation
        self.patience = patience
        self.validate_every = validate_every
        self.minibatch_ot = minibatch_ot
        self.minibatch_cost = minibatch_cost
        self.mixed_precision = mixed_precision
        self.method = method
        self.ode_steps = ode_steps
        self.rtol = rtol
        self.atol = atol
        self.chunk_size = chunk_size
        self.support_quantile = support_quantile
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every
        self.resume = resume
        self.seed = seed
        self.device = device
        self.progress = progress

    def fit(self, X: Any, Y: Any, coupling: PairSampler) -> ConditionalFlow:
        """Train on pairs drawn from a coupling.

        Parameters
        ----------
        X : array of shape (n, n_source_dims)
        Y : array of shape (m, n_target_dims)
            The points the coupling was solved for; numpy, torch, or dask (read a block of rows at a time).
        coupling : Coupling
            Offers ``sample(n, rng)`` and ``anchors``.

        Raises
        ------
        FloatingPointError
            The loss became non-finite.
        FlowFileError
            The checkpoint folder holds another run.
        ValueError
            Arrays that are not finite matrices, of another size than the coupling, or settings out of range.
        """
        X, Y = as_points(X, "X"), as_points(Y, "Y")
        shape = getattr(coupling, "shape", (len(X), len(Y)))
        if tuple(shape) != (len(X), len(Y)):
            raise ValueError(
                f"found {len(X)} source and {len(Y)} target points for a coupling of shape {tuple(shape)}; expected the points it "
                "was solved for. Mend: pass those, in the same order."
            )
        options = self._options()
        self.source_scale_, self.target_scale_ = Standardiser.fit(X), Standardiser.fit(Y)
        left, right = standardised(X, self.source_scale_), standardised(Y, self.target_scale_)
        self.support_ = {
            "forward": Support.fit(right, quantile=self.support_quantile, seed=self.seed),
            "backward": Support.fit(left, quantile=self.support_quantile, seed=self.seed),
        }
        there, back = self._images(X, Y, coupling)

        def swapped(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            rows, columns = coupling.sample(n, rng)
            return columns, rows

        self.forward_, trained = self._train(left, right, there, coupling.sample, options, "forward")
        self.losses_, self.validation_losses_ = trained.losses, trained.validation_losses
        self.resumed_at_ = {"forward": trained.resumed_at}
        # A padded flow is its own inverse, run backward in time. The other bases condition on where they start,
        # so the way back is a second field, trained on the same coupling with the roles exchanged.
        self.backward_: Way | None = None
        if self.base in ("affine", "noise") or back is not None:
            self.backward_, trained = self._train(right, left, back, swapped, options, "backward")
            self.resumed_at_["backward"] = trained.resumed_at
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
        RuntimeError
            The flow has not been fitted.
        """
        self._check_fitted()
        fitted = Fitted(
            self.source_scale_, self.target_scale_, self.support_, self.forward_, self.backward_, self.losses_
        )
        settings = {name: getattr(self, name) for name in SAVED} | {"base": self._base_name}
        return write_flow(Path(folder), fitted, settings, self.network)

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
            What the flow was made with, where that was not the default: code is not kept on disk.
        base : map or tuple of two maps, optional
            Likewise, where the base was maps other than `LinearMap` and `KernelMap`, which are kept.
        device : str, optional

        Raises
        ------
        FlowFileError
            Missing or damaged files, another format version, shapes that do not fit, or code that is not given.
        """
        given = None if base is None else _pair(base)
        fitted, settings = read_flow(Path(folder), network=network, maps=given, device=torch.device(device or "cpu"))
        if settings["base"] == MAPS:
            kept = [
                way.image.image for way in (fitted.forward, fitted.backward) if way and isinstance(way.image, Between)
            ]
            settings["base"] = kept[0] if len(kept) == 1 else tuple(kept)
        flow = cls(**settings, network=network, device=device)
        flow.source_scale_, flow.target_scale_, flow.support_ = fitted.source_scale, fitted.target_scale, fitted.support
        flow.forward_, flow.backward_, flow.losses_ = fitted.forward, fitted.backward, fitted.losses
        return flow

    @property
    def _base_name(self) -> str:
        return self.base if isinstance(self.base, str) else MAPS

    # From a map there is less to learn, and what a longer training or a narrower path adds on development digits (docs/flow.md) is
    # a farther way from the images.
    @property
    def _length(self) -> int:
        return (1000 if isinstance(self.base, str) else 500) if self.n_steps is None else self.n_steps

    @property
    def _width_of_path(self) -> float:
        return (0.1 if isinstance(self.base, str) else 0.5) if self.sigma is None else self.sigma

    def _images(self, X: Any, Y: Any, coupling: PairSampler) -> tuple[PointMap | None, PointMap | None]:
        """Return where paths start, forward and backward, between standardised points."""
        scales = self.source_scale_, self.target_scale_
        if self.base == "affine":
            i, j = coupling.anchors
            ends = scales[0].forward(read_rows(X, i)), scales[1].forward(read_rows(Y, j, "Y"))
            return ridge_map(*ends), ridge_map(*ends[::-1])
        if isinstance(self.base, str):
            return None, None
        there, back = _pair(self.base)
        return Between(there, *scales), None if back is None else Between(back, *scales[::-1])

    def _options(self) -> Training:
        on_gpu = torch.device(self.device or "cpu").type == "cuda"
        precision: Literal["bfloat16", "float16"] | None = "bfloat16" if on_gpu else None
        if self.mixed_precision is not None:
            precision = {True: "bfloat16", False: None, "float16": "float16"}[self.mixed_precision]
        return Training(
            n_steps=self._length,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            sigma=self._width_of_path,
            ema=self.ema,
            clip=self.clip,
            validation=self.validation,
            patience=self.patience,
            validate_every=self.validate_every,
            minibatch_ot=self.minibatch_ot,
            minibatch_cost=self.minibatch_cost or squared_distance,
            mixed_precision=precision,
            checkpoint_every=self.checkpoint_every,
            seed=self.seed,
            progress=self.progress,
        )

    def _train(
        self,
        left: np.ndarray,
        right: np.ndarray,
        image: PointMap | None,
        draw: Draw,
        options: Training,
        name: Direction,
    ) -> tuple[Way, Trained]:
        device = torch.device(self.device or "cpu")
        n_start, n_end = left.shape[1], right.shape[1]
        size = Way(torch.nn.Identity(), self._base_name, n_start, n_end, image)
        network = build_network(
            self.network, size.n_state, size.n_condition,
            width=self.width, depth=self.depth, seed=self.seed, device=device,
        )  # fmt: skip
        way = Way(network, self._base_name, n_start, n_end, image)
        starts = None
        if self.base != "noise":
            # Starts that do not change are computed once for all rows; noise is drawn anew at every step.
            begin = np.empty((len(left), way.n_state), dtype=np.float32)
            for rows, block in read_blocks(left, self.chunk_size):
                begin[rows] = way.start(block)
            starts = torch.as_tensor(begin, device=device)
        problem = Problem(
            starts,
            torch.as_tensor(pad_to(right, way.n_state), device=device),
            torch.as_tensor(left, device=device) if way.n_condition else None,
        )
        if self.checkpoint is None:
            return way, train(network, problem, draw, options)
        first = draw(256, np.random.default_rng([self.seed, 4]))
        begun = () if starts is None else (starts.cpu().numpy(),)
        trained = train(
            network,
            problem,
            draw,
            options,
            checkpoint=(Path(self.checkpoint), name),
            resume=self.resume,
            fingerprint={**self._settings_of_training(), "data": _digest(left, right, *first, *begun)},
        )
        return way, trained

    def _settings_of_training(self) -> dict[str, Any]:
        names = (
            "width", "depth", "batch_size", "learning_rate", "weight_decay", "ema", "clip",
            "validation", "patience", "validate_every", "minibatch_ot", "mixed_precision", "seed",
        )  # fmt: skip
        plain = {name: getattr(self, name) for name in names}
        cost = self.minibatch_cost
        plain["minibatch_cost"] = cost and f"{cost.__module__}.{getattr(cost, '__qualname__', type(cost).__qualname__)}"
        plain["device"] = torch.device(self.device or "cpu").type
        return plain | {"base": self._base_name, "sigma": self._width_of_path, "n_steps": self._length}


def _pair(base: Any) -> tuple[PointMap, PointMap | None]:
    return base if isinstance(base, tuple) else (base, None)


def _shown(base: Any) -> str:
    if isinstance(base, tuple):
        return f"({', '.join(_shown(part) for part in base)})"
    return repr(base) if isinstance(base, (str, int, float, type(None))) else type(base).__name__


def _is_base(base: Any) -> bool:
    if isinstance(base, tuple):
        return len(base) == 2 and all(callable(image) for image in base)
    return callable(base) or (isinstance(base, str) and base in BASES)


def _digest(*arrays: np.ndarray) -> str:
    """Digest of the training points and of the first draws, which stand for the coupling."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(str(array.shape).encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
