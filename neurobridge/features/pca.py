"""Principal components of layers, fitted on images of their own (Brain-Score's practice: 1000, on ImageNet)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from sklearn.decomposition import PCA

from neurobridge.assemblies import AssemblyError
from neurobridge.features.extraction import extract
from neurobridge.features.models.axes import is_in_order
from neurobridge.features.stimuli.collections import Root, Stimuli
from neurobridge.features.stimuli.images import Pixels, as_source, pixel_digests, read_ahead
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.points.display import html_repr, short_repr
from neurobridge.store.atomic import atomic_path

_FORMAT = "neurobridge layer pca 1"
_ARGUMENTS = ("axes", "batch_size", "device", "workers", "max_bytes", "progress")
_OF_MODEL = ("weights_digest", "architecture_digest", "preprocessing", "axes")
# Order of the units, recorded since 0.2: before, components were fitted in the order of the output.
_ORDER, _UNITS = "order", "channel,row,column; token,channel"


@dataclass(frozen=True, eq=False)
class LayerPCA:
    """Fitted components, one set a layer: pass it to `extract` as ``pooling``.

    A layer with at most ``n_components`` units has no components here and is kept as it is.

    Attributes
    ----------
    n_components : int
    mean : dict of str to tensor of shape (n_units,)
    components : dict of str to tensor of shape (n_components, n_units)
    explained : dict of str to float
        Share of the fitting images' variance that the components hold.
    kept : tuple of str
        Layers with no more units than components.
    fitted_on : frozenset of str
        Digest of every fitting image: `extract` refuses to show one of them, as the components have seen it.
    of_model : dict
        Digests of the model and the preprocessing that it was fitted with.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import neurobridge as nb
    >>> pixels = np.random.default_rng(0).integers(0, 255, (6, 48, 48)).astype(np.uint8)
    >>> ids = ("presentation", [f"image{k}" for k in range(6)])
    >>> images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    >>> model = nb.features.GaborEnergy(n_scales=2)
    >>> pca = nb.features.fit_pca(model, images[:4], ["v1"], n_components=3, progress=False)
    >>> pca
    LayerPCA(1 layer fitted, 3 components, 0 layers kept, 4 fitting images)
    >>> nb.extract(model, images[4:], ["v1"], pooling=pca, progress=False).shape
    (2, 3)
    """

    n_components: int
    mean: Mapping[str, torch.Tensor]
    components: Mapping[str, torch.Tensor]
    explained: Mapping[str, float]
    kept: tuple[str, ...]
    fitted_on: frozenset[str]
    of_model: Mapping[str, str]

    def __repr__(self) -> str:
        n_fitted = len(self.components)
        return short_repr(
            "LayerPCA",
            f"{n_fitted} layer{'s' * (n_fitted != 1)} fitted",
            f"{self.n_components} components",
            f"{len(self.kept)} layers kept",
            f"{len(self.fitted_on)} fitting images",
        )

    def _repr_html_(self) -> str:
        explained = {f"variance held, {layer}": share for layer, share in self.explained.items()}
        facts = {"components": self.n_components, "layers kept": self.kept, "fitting images": len(self.fitted_on)}
        return html_repr("LayerPCA", {**facts, **explained})

    @property
    def label(self) -> str:
        """Name among several poolings."""
        return f"pca:{self.n_components}"

    def __call__(self, layer: str, output: torch.Tensor) -> torch.Tensor:
        """Project one batch: (n, ...) -> (n, n_components)."""
        flat = output.flatten(1)
        if layer in self.kept:
            return flat
        mean, components = (by_layer[layer].to(flat.device, torch.float32) for by_layer in (self.mean, self.components))
        return (flat.to(torch.float32) - mean) @ components.T

    def check(self, layers: Sequence[str], attrs: Mapping[str, Any]) -> None:
        """Refuse layers, a model or a preprocessing that it was not fitted with."""
        missing = [name for name in layers if name not in self.components and name not in self.kept]
        if missing:
            raise AssemblyError(
                f"pooling: found components of {[*self.components, *self.kept]}; expected also {missing}. Mend: fit_pca with the "
                "same layers."
            )
        other = [name for name in _OF_MODEL if attrs.get(name) != self.of_model.get(name)]
        if other:
            raise AssemblyError(
                f"pooling: found components fitted with another {' and '.join(other)}; expected those of this model and "
                "preprocessing. Mend: fit_pca(model, other_images, layers, preprocess=...)."
            )

    def check_axes(self, layer: str, axes: Sequence[str]) -> None:
        """Refuse components of version 0.1 for a layer whose units it took in another order."""
        if self.of_model.get(_ORDER) != _UNITS and not is_in_order(tuple(axes)):
            raise AssemblyError(
                f"pooling: found components that version 0.1 fitted to layer {layer!r}, whose output has the axes {tuple(axes)}; "
                f"expected units in the order {_UNITS}. Mend: fit_pca again."
            )

    def watch(self, pixels: Pixels, ids: Sequence[Any]) -> None:
        """Refuse a stimulus that the components were fitted on."""
        for digest, stimulus in zip(pixel_digests(pixels), ids, strict=True):
            if digest in self.fitted_on:
                raise AssemblyError(
                    f"stimulus {stimulus!r}: found it among the {len(self.fitted_on)} images that the components were fitted on; "
                    "expected other images. Mend: fit_pca on images that are not evaluated."
                )

    def record(self) -> str:
        """Return the settings and a digest of the components, as JSON."""
        sha = hashlib.sha256()
        for name in sorted(self.components):
            sha.update(name.encode() + self.mean[name].numpy().tobytes() + self.components[name].numpy().tobytes())
        settings = {
            "n_components": self.n_components,
            "n_fitted_on": len(self.fitted_on),
            "explained": {name: round(value, 6) for name, value in self.explained.items()},
            "digest": "sha256:" + sha.hexdigest(),
        }
        return json.dumps({"pca": settings}, sort_keys=True)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write as one safetensors file."""
        path = Path(path)
        tensors = {f"mean.{name}": value.contiguous() for name, value in self.mean.items()}
        tensors |= {f"components.{name}": value.contiguous() for name, value in self.components.items()}
        about = {
            "n_components": self.n_components,
            "explained": dict(self.explained),
            "kept": list(self.kept),
            "fitted_on": sorted(self.fitted_on),
            "of_model": dict(self.of_model),
        }
        with atomic_path(path) as partial:
            safetensors.torch.save_file(tensors, partial, metadata={"format": _FORMAT, "about": json.dumps(about)})
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LayerPCA:
        """Read what `save` wrote.

        Raises
        ------
        AssemblyError
            The file is no such file.
        """
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (safetensors.SafetensorError, OSError) as error:
            if not Path(path).is_file():
                raise FileNotFoundError(
                    f"found no file at {path}; expected components. Mend: check the path."
                ) from error
            metadata, tensors = {"format": f"not safetensors: {error}"}, {}
        if metadata.get("format") != _FORMAT:
            raise AssemblyError(
                f"{path}: found {metadata.get('format', 'another safetensors file')}; expected what LayerPCA.save wrote. "
                "Mend: fit_pca(...).save(path)."
            )
        about = json.loads(metadata["about"])
        parts: dict[str, dict[str, torch.Tensor]] = {"mean": {}, "components": {}}
        for name, tensor in tensors.items():
            kind, _, layer = name.partition(".")
            parts[kind][layer] = tensor
        return cls(
            n_components=about["n_components"],
            explained=about["explained"],
            kept=tuple(about["kept"]),
            fitted_on=frozenset(about["fitted_on"]),
            of_model=about["of_model"],
            **parts,
        )


def fit_pca(
    model: torch.nn.Module,
    images: Stimuli,
    layers: str | Sequence[str],
    *,
    n_components: int = 1000,
    root: Root = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    **arguments: Any,
) -> LayerPCA:
    """Fit principal components of each layer, flattened, on images that will not be evaluated (scikit-learn's PCA).

    Parameters
    ----------
    model, layers, root, preprocess
        As for `extract`, which must be called with the same.
    images : xarray.DataArray or pandas.DataFrame
        Fitting images; more of them than components.
    n_components : int
        Components a layer. Layers with no more units than that are kept as they are.
    seed : int
        Of scikit-learn's randomised solver, where it takes that one.
    **arguments
        Of `extract`: axes, batch_size, device, workers, max_bytes, progress, and no others.

    Returns
    -------
    LayerPCA
        Components in float32.

    Raises
    ------
    AssemblyError
        Fewer images than components, another argument of `extract`, or what `extract` refuses.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import neurobridge as nb
    >>> pixels = np.random.default_rng(0).integers(0, 255, (6, 48, 48)).astype(np.uint8)
    >>> ids = ("presentation", [f"image{k}" for k in range(6)])
    >>> images = xr.DataArray(pixels, dims=("presentation", "row", "column"), coords={"stimulus_id": ids})
    >>> pca = fit_pca(nb.features.GaborEnergy(n_scales=2), images, "v1", n_components=3, progress=False)
    >>> pca.components["v1"].shape  # 2 scales, 6 orientations, a grid of 4 x 4
    torch.Size([3, 192])
    """
    if unknown := sorted(set(arguments) - set(_ARGUMENTS)):
        raise AssemblyError(
            f"fit_pca: found the argument(s) {unknown}; expected beside its own only {list(_ARGUMENTS)}. Mend: leave them out: "
            "components are fitted in memory, on all units, in float32."
        )
    source = as_source(images, root)
    if n_components < 1:
        raise AssemblyError(f"n_components: found {n_components}; expected at least 1. Mend: e.g. 1000.")
    activations = extract(model, images, layers, root=root, preprocess=preprocess, seed=seed, **arguments)
    layer_of = activations.coords["layer"].values
    mean, components, explained, kept = {}, {}, {}, []
    for name in activations.attrs["layers"]:
        values = activations.values[:, layer_of == name]
        if values.shape[1] <= n_components:
            kept.append(name)
            continue
        if len(values) <= n_components:
            raise AssemblyError(
                f"images: found {len(values)} to fit {n_components} components of layer {name!r} on; expected more images than "
                "components. Mend: more fitting images, or fewer components."
            )
        fitted_pca = PCA(n_components, random_state=seed).fit(values)
        mean[name] = torch.from_numpy(np.ascontiguousarray(fitted_pca.mean_, dtype=np.float32))
        components[name] = torch.from_numpy(np.ascontiguousarray(fitted_pca.components_, dtype=np.float32))
        explained[name] = float(fitted_pca.explained_variance_ratio_.sum())
    fitted_on = [digest for _, pixels in read_ahead(source, source.blocks(64), 0) for digest in pixel_digests(pixels)]
    return LayerPCA(
        n_components=n_components,
        mean=mean,
        components=components,
        explained=explained,
        kept=tuple(kept),
        fitted_on=frozenset(fitted_on),
        of_model={_ORDER: _UNITS, **{name: activations.attrs[name] for name in _OF_MODEL if name in activations.attrs}},
    )
