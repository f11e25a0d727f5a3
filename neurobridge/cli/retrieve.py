"""`neurobridge retrieve`: the partners of stimuli sought among the stimuli of another space."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from neurobridge.cli.align import FITTED_PAIRS, read_pairs
from neurobridge.cli.choices import HUB_CORRECTIONS, SIMILARITIES
from neurobridge.cli.common import Json, Seed, print_json, print_tables, require_choice, tell
from neurobridge.cli.reading import MaxMissing, TimeBin, averaged, command, complete, next_step, notes, read, unit_of

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr
    from matplotlib.figure import Figure

    from neurobridge.assemblies import Pairs


def retrieve_command(
    source: Annotated[Path, typer.Argument(help="Assembly in the space of the other, e.g. one that align wrote.")],
    target: Annotated[Path, typer.Argument(help="The other assembly, netCDF or zarr.")],
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Stimuli that are searched: their ids with commas or a line each (.txt), or a csv with source_id and target_id; "
            "those with the same stimulus_id by default."
        ),
    ] = None,
    fitted_pairs: Annotated[
        str | None,
        typer.Option(
            help="Pairs that the alignment was fitted on, which are left out. Default: those that align kept in its file; "
            "none keeps them; else what align had as --pairs, with its --seed and --max-missing."
        ),
    ] = None,
    similarity: Annotated[str, typer.Option(help=f"One of {', '.join(SIMILARITIES)}.")] = "cosine",
    hub_correction: Annotated[
        str | None,
        typer.Option(help=f"Correction for hubs, which looks at the whole test set: {', '.join(HUB_CORRECTIONS)}."),
    ] = None,
    ks: Annotated[str, typer.Option(help="Numbers k of R@k, with commas.")] = "1,5,10",
    n_permutations: Annotated[int, typer.Option(min=0, help="Size of the null.")] = 1000,
    n_bootstrap: Annotated[int, typer.Option(min=0, help="Draws of the queries for the 95 % intervals.")] = 1000,
    save_figure: Annotated[
        Path | None,
        typer.Option("--save-figure", help="Figure to write, FOLDER/NAME.png; as svg beside it."),
    ] = None,
    max_missing: MaxMissing = 0.1,
    time_bin: TimeBin = None,
    out: Annotated[Path | None, typer.Option(help="netCDF file of the Score.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Seek the partner of every stimulus among those of the other space, in both directions, with chance.

    Both files are in one space: recordings, and what align moved there.
    """
    from neurobridge import figures
    from neurobridge.assemblies import resolve_pairs
    from neurobridge.assemblies.storage.files import save_variables
    from neurobridge.evaluate import retrieve
    from neurobridge.figures.telling.words import words_of

    require_choice("--similarity", similarity, SIMILARITIES)
    if hub_correction is not None:
        require_choice("--hub-correction", hub_correction, HUB_CORRECTIONS)
    counts = _counts(ks)
    wanted = read_pairs(pairs)
    given = fitted_pairs is not None
    fitted = None if fitted_pairs == "none" else read_pairs(fitted_pairs, option="--fitted-pairs")
    spaces = _in_one_space(source, target, max_missing, time_bin)
    with notes():
        whole = resolve_pairs(*spaces, wanted, seed=seed)
        if not given:
            fitted = _kept_pairs(spaces, whole)
        searched, n_used, n_fitted = _searched(spaces, whole, fitted, seed)
        score = retrieve(
            *spaces,
            searched,
            ks=counts,
            similarity=similarity,
            hub_correction=hub_correction,
            n_permutations=n_permutations,
            n_bootstrap=n_bootstrap,
            seed=seed,
        )
    if out is not None:
        save_variables(score, out)
    summary: dict[str, Any] = {
        "source": str(source), "target": str(target), "n_stimuli": len(searched), "n_fitted_left_out": n_used, "seed": seed,
        **{key: score.attrs[key] for key in ("metric", "n_permutations", "n_bootstrap")}, "scores": _numbers(score),
    }  # fmt: skip
    if save_figure is not None:
        save_figure.parent.mkdir(parents=True, exist_ok=True)
        ax = figures.plot(score, title=f"{source.name} and {target.name}\n{len(searched)} pairs, seed {seed}")
        paths = figures.save_figure(cast("Figure", ax.figure), save_figure.parent, save_figure.stem)
        summary["figures"] = [str(path) for path in paths]
    if as_json:
        print_json(summary)
        return
    print_tables(_tables(summary))
    tell(words_of(score).finding)
    if fitted is not None:
        kept = "" if given else ", which its file names (--fitted-pairs none keeps them)"
        tell(f"left out {n_used} pairs that the alignment was fitted on{kept}.")
    n_known = next((space.attrs.get("n_pairs") for space in spaces if "aligner" in space.attrs), None)
    if (given or fitted is None) and n_known is not None and n_known > n_fitted:
        tell(
            f"note: the alignment was fitted on {n_known} pairs, of which {n_fitted} are left out: the ranks of the others are too "
            "good. Align over fewer pairs, or name them by --fitted-pairs."
        )
    if out is not None:
        tell(f"wrote {out}.")
        next_step("report", out)
    else:
        tell("Nothing is kept without a file: --out score.nc writes the score and the rank of every partner.")


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(
            f"--ks: found {text}; expected whole numbers above 0 with commas. Mend: --ks 1,5,10, or leave it out."
        )
    return [int(word) for word in words]


def _in_one_space(
    source: Path, target: Path, max_missing: float, time_bin: int | None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Read both assemblies with the same neuroids in the same order, and say what was left out."""
    from neurobridge.assemblies import AssemblyError

    whole = [averaged(read(path, time_bin=time_bin), path) for path in (source, target)]
    spaces = [complete(space, path, max_missing) for space, path in zip(whole, (source, target), strict=True)]
    names = [list(map(str, space["neuroid_id"].values)) for space in spaces]
    # Ids are those of one space where an aligner or one population wrote them; else 0, 1, ... say nothing.
    of_one = "aligner" in whole[0].attrs or "aligner" in whole[1].attrs
    of_one |= {*map(str, whole[0]["neuroid_id"].values)} == {*map(str, whole[1]["neuroid_id"].values)}
    shared = {*names[0]} & {*names[1]}
    if of_one and shared:
        rows = [{name: row for row, name in enumerate(side)} for side in names]
        kept = [name for name in names[1] if name in shared]
        for space, path in zip(spaces, (source, target), strict=True):
            n, n_lacking = space.sizes["neuroid"], space.sizes["neuroid"] - len(kept)
            if n_lacking:
                tell(f"left out {n_lacking} of {n:,} {unit_of(space)} of {path}, which the other file lacks.")
        return tuple(space.isel(neuroid=[row[name] for name in kept]) for space, row in zip(spaces, rows, strict=True))  # type: ignore[return-value]
    sizes = [space.sizes["neuroid"] for space in spaces]
    if sizes[0] != sizes[1]:
        aligned = source.with_name(f"{source.stem}-aligned.nc")
        raise AssemblyError(
            f"{source} and {target}: found {sizes[0]} and {sizes[1]} neuroids; expected both in one space. "
            f"Mend: {command('align', source, target, '--pairs', 0.5, '--out', aligned)}, then "
            f"{command('retrieve', aligned, target)}."
        )
    return spaces[0], spaces[1]


def _kept_pairs(spaces: tuple[xr.DataArray, xr.DataArray], whole: Pairs) -> Pairs | None:
    """Return the pairs that `align` kept in one of the files, those of its stimuli that are still there.

    None where neither has them, or where fewer than two others would be left to search.
    """
    import numpy as np

    from neurobridge.assemblies import Pairs

    side = next((k for k, space in enumerate(spaces) if all(name in space.attrs for name in FITTED_PAIRS)), None)
    if side is None:
        return None
    # The file that was moved holds the source of the alignment; here it may be either side.
    ids = [
        np.asarray(spaces[side].attrs[name], dtype=str) for name in (FITTED_PAIRS if side == 0 else FITTED_PAIRS[::-1])
    ]
    known = [set(map(str, space["stimulus_id"].values)) for space in spaces]
    there = np.array([a in known[0] and b in known[1] for a, b in zip(*ids, strict=True)], dtype=bool)
    if not there.any():
        return None
    kept = Pairs(ids[0][there], ids[1][there])
    return kept if (~_used(whole, kept)).sum() >= 2 else None


def _used(whole: Pairs, fitted: Pairs) -> np.ndarray:
    """Flag the pairs that have a stimulus of the pairs of fitting."""
    import numpy as np

    return np.isin(whole.source_id.astype(str), fitted.source_id.astype(str)) | np.isin(
        whole.target_id.astype(str), fitted.target_id.astype(str)
    )


def _searched(
    spaces: tuple[xr.DataArray, xr.DataArray], whole: Pairs, fitted: Any, seed: int
) -> tuple[Pairs, int, int]:
    """Return the pairs that are searched, the number of those of fitting that were left out, and of those that are named."""
    from neurobridge.assemblies import AssemblyError, Pairs, resolve_pairs

    if fitted is None:
        return whole, 0, 0
    known = resolve_pairs(*spaces, fitted, seed=seed)
    used = _used(whole, known)
    if (~used).sum() < 2:
        raise AssemblyError(
            f"--fitted-pairs: found {int(used.sum())} of {len(whole)} pairs among those of fitting; expected two or more others "
            "to search. Mend: align over fewer pairs, or leave --fitted-pairs out for the fit's own ranks."
        )
    return Pairs(whole.source_id[~used], whole.target_id[~used]), int(used.sum()), len(known)


def _numbers(score: xr.Dataset) -> dict[str, dict[str, dict[str, float]]]:
    """Return value, interval, chance and p of every direction and measure."""
    columns = {"value": "raw", "low": "raw_low", "high": "raw_high", "chance": "chance", "p_value": "p_value"}
    return {
        direction: {
            measure: {
                column: float(score[name].sel(direction=direction, measure=measure)) for column, name in columns.items()
            }
            for measure in score["measure"].values.tolist()
        }
        for direction in score["direction"].values.tolist()
    }


def _tables(summary: dict[str, Any]) -> list[dict[str, Any]]:
    from neurobridge.figures.analyses import SOUGHT

    def row(measure: str, cell: dict[str, float]) -> list[str]:
        interval = f"[{cell['low']:.3f}, {cell['high']:.3f}]"
        return [measure, f"{cell['value']:.3f}", interval, f"{cell['chance']:.3f}", f"{cell['p_value']:.3g}"]

    columns = ["measure", "value", "95 % interval", "chance", "p"]
    return [
        {
            "title": f"{SOUGHT[direction]}: {summary['metric']}, {summary['n_stimuli']} pairs",
            "columns": columns,
            "rows": [row(measure, cell) for measure, cell in cells.items()],
        }
        for direction, cells in summary["scores"].items()
    ]
