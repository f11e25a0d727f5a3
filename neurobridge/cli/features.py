"""Command line of the features: `neurobridge features ...`."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurobridge.cli.common import Json, Mirror, Seed, print_json, tell
from neurobridge.cli.train import train_command

if TYPE_CHECKING:
    import xarray as xr

    from neurobridge.features import LayerPCA, LoadedModel, Preprocess, RandomProjection

features_app = typer.Typer(no_args_is_help=True, help="Activations of frozen models.")
features_app.command("train")(train_command)

_POOLING = "flatten, mean, cls, pca:K, sparse:K or gaussian:K (random projection)"


@features_app.command("extract")
def extract_command(
    model: Annotated[
        str,
        typer.Option(
            help="timm:NAME, torchvision:NAME, weights:efficientnet-lite0, python:MODULE:NAME, gabor_energy, a reference folder, "
            "a program."
        ),
    ],
    stimuli: Annotated[
        str,
        typer.Option(
            help="Folder, glob ('images/*.png') or zip of images, whose ids are the file names; a csv with stimulus_id and file, "
            "or of trials, whose files are in --root; or a dataset with images."
        ),
    ],
    layers: Annotated[
        list[str], typer.Option("--layer", help="Layer name or glob pattern; may be given several times.")
    ],
    out: Annotated[Path, typer.Option(help="File to write, .nc or .zarr; resumed after a kill.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the files of a csv, or a zip with them; by default the folder of the csv."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="State dict of the named model, .safetensors or torch.save; never executed.")
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Read a program file as --model. Programs are code: a .pt2 file can run any command of the shell while it is "
            "read, TorchScript can overwrite files when it runs. Only where you know who made it; weights need no trust.",
        ),
    ] = False,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Leave a timm, torchvision or weights model untrained.")
    ] = False,
    size: Annotated[int | None, typer.Option(min=1, help="Resize to so many pixels a side.")] = None,
    crop: Annotated[float | None, typer.Option(help="Central square kept before that, of the shorter side.")] = None,
    mean: Annotated[str | None, typer.Option(help="Subtracted, on [0, 1]: one value, or three with commas.")] = None,
    std: Annotated[str | None, typer.Option(help="Divided by: one value, or three with commas.")] = None,
    grayscale: Annotated[
        bool | None, typer.Option("--grayscale/--rgb", help="One luminance channel, or three; as stored by default.")
    ] = None,
    visual_degrees: Annotated[float | None, typer.Option(help="Width of the images in degrees, recorded.")] = None,
    poolings: Annotated[
        list[str] | None,
        typer.Option(
            "--pooling",
            help=f"{_POOLING}; flatten by default. Given several times: all of them, from one forward pass.",
        ),
    ] = None,
    axes: Annotated[
        list[str] | None,
        typer.Option(
            help="Axes of the output of a layer, LAYER=presentation,row,column,channel (or token), in its order; found by itself "
            "where not given. May be given several times."
        ),
    ] = None,
    fit_on: Annotated[
        str | None,
        typer.Option(help="For pca:K: dataset or csv with the fitting images, none of them among --stimuli."),
    ] = None,
    fit_root: Annotated[Path | None, typer.Option(help="Folder or zip of --fit-on.")] = None,
    pca_file: Annotated[
        Path | None, typer.Option("--pca", help="Components of earlier (LayerPCA.save), or where to keep those fitted.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32, or float16 for .zarr.")] = "float32",
    batch_size: Annotated[int, typer.Option(min=1, help="Images a forward pass; halved where memory runs out.")] = 64,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read images ahead.")] = 1,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; where the model is by default.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another extraction at --out.")] = False,
    mirror: Mirror = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Show stimuli to a frozen model and write the activations of named layers as an assembly.

    The preprocessing that was published for a model is the default; options replace single settings of it.
    """
    from neurobridge.features import extract, load_model

    chosen = [_pooling(text) for text in poolings or ["flatten"]]
    _refuse_several_fits(chosen)
    loaded = load_model(model, weights=weights, pretrained=not untrained, trust=trust)
    preprocess = _preprocess(
        loaded,
        size=size,
        crop=crop,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        grayscale=grayscale,
        visual_degrees=visual_degrees,
    )
    common: dict[str, Any] = {"preprocess": preprocess, "batch_size": batch_size, "workers": workers, "device": device}
    common |= {"seed": seed, "progress": not as_json, "axes": _axes(axes or [])}
    images, where = _stimuli(stimuli, root, mirror)
    reductions = [
        _components(loaded, layers, k, fit_on, fit_root, pca_file, mirror, common)
        if kind == "pca"
        else _projection(kind, k, seed)
        for kind, k in chosen
    ]
    started = time.perf_counter()
    activations = extract(
        loaded.model,
        images,
        layers,
        root=where,
        pooling=reductions if len(reductions) > 1 else reductions[0],
        dtype=dtype,
        identifier=loaded.identifier,
        out=out,
        overwrite=overwrite,
        **common,
    )
    seconds = time.perf_counter() - started
    names = ("model", "weights_digest", "stimuli_digest", "extraction_key", "layers", "pooling", "preprocessing")
    summary = {
        "out": str(out),
        "shape": list(activations.shape),
        "dtype": str(activations.dtype),
        **{name: activations.attrs[name] for name in names},
        "seed": seed,
        "seconds": round(seconds, 3),
    }
    if as_json:
        print_json(summary)
    else:
        ids = activations["stimulus_id"].values
        tell(
            f"showed {activations.shape[0]} stimuli of {stimuli} ({ids[0]}, ... {ids[-1]}) to {loaded.identifier}: "
            f"{activations.shape[1]} "
            f"units of {len(activations.attrs['layers'])} layer{'s' * (len(activations.attrs['layers']) > 1)}, {seconds:.1f} s. "
            f"wrote {out}; its attributes hold the settings and digests (--json prints them)."
        )
        tell(
            f"next: neurobridge align {out} RECORDINGS.nc --pairs 20 --out aligned.nc; neurobridge score --help for benchmarks."
        )


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"{option}: found {text!r}; expected numbers with commas. Mend: e.g. 0.485,0.456,0.406."
        ) from error


def _axes(given: list[str]) -> dict[str, str] | None:
    axes: dict[str, str] = {}
    for text in given:
        layer, equals, names = text.rpartition("=")
        if not equals or layer in axes:
            raise ValueError(
                f"--axes: found {text!r}; expected LAYER=AXES, each layer once. "
                "Mend: e.g. --axes norm=presentation,row,column,channel."
            )
        axes[layer] = names
    return axes or None


def _preprocess(loaded: LoadedModel, **given: Any) -> Preprocess:
    from neurobridge.features import Preprocess

    return replace(
        loaded.preprocess or Preprocess(), **{name: value for name, value in given.items() if value is not None}
    )


def _pooling(text: str) -> tuple[str, int]:
    """Split a pooling from its number: "pca:100" is ("pca", 100); 0 where there is none."""
    match = re.fullmatch(r"(pca|sparse|gaussian):([1-9]\d*)|(flatten|mean|cls)", text)
    if match is None:
        raise ValueError(f"--pooling: found {text!r}; expected {_POOLING}. Mend: e.g. pca:1000.")
    return match[1] or match[3], int(match[2] or 0)


def _refuse_several_fits(chosen: list[tuple[str, int]]) -> None:
    n_fits = [kind for kind, _ in chosen].count("pca")
    if n_fits > 1:
        raise ValueError(
            f"--pooling: found pca {n_fits} times; expected it once, as the components are fitted or read once. Mend: a run each."
        )


def _projection(kind: str, k: int, seed: int) -> str | RandomProjection:
    """Return the name of a pooling, or the random projection to ``k`` directions."""
    from neurobridge.features import RandomProjection

    return RandomProjection(k, kind=kind, seed=seed) if k else kind


def _stimuli(given: str, root: Path | None, mirror: Path | None) -> tuple[xr.DataArray | str, Path | None]:
    """Return the images of a dataset by its name, and what is a path or a pattern as it is."""
    from neurobridge import datasets

    is_place = (
        Path(given).exists()
        or any(mark in given for mark in "*?[/\\")
        or Path(given).suffix.lower() in (".csv", ".tsv", ".parquet")
    )
    if is_place:
        return given, root
    if root is not None:
        raise ValueError(
            f"--root: found {root} beside the dataset {given!r}; expected it only with a csv. Mend: leave it out."
        )
    try:
        images = datasets.load(given, mirror=mirror).images
    except datasets.UnknownDatasetError as error:
        raise FileNotFoundError(
            f"found no file or folder at {given}, and no dataset of that name; expected images. Mend: check the path, or "
            "choose a dataset from: neurobridge data list."
        ) from error
    if images is None:
        raise ValueError(
            f"found no images in the dataset {given!r}; expected one that has them. Mend: see neurobridge data list, or pass a csv."
        )
    return images, None


def _components(
    loaded: LoadedModel,
    layers: list[str],
    n_components: int,
    fit_on: str | None,
    fit_root: Path | None,
    file: Path | None,
    mirror: Path | None,
    common: dict[str, Any],
) -> LayerPCA:
    from neurobridge.features import LayerPCA, fit_pca

    if fit_on is None:
        if file is None or not file.exists():
            absent = "" if file is None else f" and no components at --pca {file}"
            raise ValueError(
                f"--pooling pca: found no fitting images{absent}; expected other images than the stimuli, or components of an "
                "earlier fit. Mend: --fit-on DATASET_OR_CSV, or --pca FILE."
            )
        pca = LayerPCA.load(file)
        if pca.n_components != n_components:
            raise ValueError(
                f"--pca: found {pca.n_components} components in {file}; expected {n_components}. Mend: --pooling "
                f"pca:{pca.n_components}."
            )
        return pca
    images, root = _stimuli(fit_on, fit_root, mirror)
    pca = fit_pca(loaded.model, images, layers, n_components=n_components, root=root, **common)
    if file is not None:
        pca.save(file)
    return pca
