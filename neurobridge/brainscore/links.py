"""Plugin folders linked into the installed Brain-Score, where alone `load_metric` and `load_benchmark` look for them."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

#: Folder of each kind of plugin within this package.
PLUGINS: dict[str, Path] = {kind: Path(__file__).parent / "plugins" / kind for kind in ("metrics", "benchmarks")}
FOLDER = "neurobridge"


def library_folder() -> Path:
    """Folder of the installed ``brainscore_vision``; it is not imported.

    Raises
    ------
    ImportError
        It is not installed.
    """
    found = importlib.util.find_spec("brainscore_vision")
    if found is None or not found.submodule_search_locations:
        raise ImportError(
            "found no brainscore_vision; expected the Brain-Score packages. "
            "Mend: pip install -c constraints-brainscore.txt 'neurobridge[brainscore]'."
        )
    return Path(next(iter(found.submodule_search_locations)))


def status(library: str | os.PathLike[str] | None = None) -> dict[str, dict[str, str]]:
    """Return where each plugin folder would be linked, and what is there.

    Parameters
    ----------
    library : path, optional
        Folder of ``brainscore_vision``; default: the installed one.

    Returns
    -------
    dict
        Kind ("metrics", "benchmarks") to ``link``, ``target`` and ``state``: "linked", "absent", "stale" (a link to the plugins
        of another or a moved neurobridge) or "foreign" (something that is not a link to plugins of neurobridge).

    Examples
    --------
    >>> import os
    >>> for kind in ("metrics", "benchmarks"):
    ...     os.makedirs(f"library/{kind}")
    >>> {kind: entry["state"] for kind, entry in status("library").items()}
    {'metrics': 'absent', 'benchmarks': 'absent'}
    """
    root = Path(library) if library is not None else library_folder()
    return {
        kind: {"link": str(root / kind / FOLDER), "target": str(target), "state": _state(root / kind / FOLDER, kind)}
        for kind, target in PLUGINS.items()
    }


def _state(place: Path, kind: str) -> str:
    if not os.path.lexists(place):
        return "absent"
    if not place.is_symlink():
        return "foreign"
    points_to = Path(os.readlink(place))
    if points_to == PLUGINS[kind]:
        return "linked"
    return "stale" if points_to.parts[-4:] == PLUGINS[kind].parts[-4:] else "foreign"


def link(library: str | os.PathLike[str] | None = None) -> list[Path]:
    """Link the plugin folders into Brain-Score, so that ``load_metric("bridge")`` and ``load_benchmark(...)`` find them.

    One symbolic link a kind of plugin, and nothing else, is written. Links of a moved neurobridge are replaced; those that are
    there already are left.

    Parameters
    ----------
    library : path, optional
        As in `status`.

    Returns
    -------
    list of Path
        The links, all of them there now.

    Raises
    ------
    FileExistsError
        Something else has the name; nothing is linked then.
    OSError
        The folder is missing or cannot be written, or the system has no symbolic links.

    Examples
    --------
    >>> import os
    >>> for kind in ("metrics", "benchmarks"):
    ...     os.makedirs(f"library/{kind}")
    >>> [path.as_posix() for path in link("library")]
    ['library/metrics/neurobridge', 'library/benchmarks/neurobridge']
    >>> status("library")["metrics"]["state"]
    'linked'
    """
    places = status(library)
    for entry in places.values():
        if entry["state"] == "foreign":
            raise FileExistsError(
                f"found something at {entry['link']} that neurobridge did not put there; expected nothing or a link to its "
                "plugins. Mend: move it away."
            )
    for entry in places.values():
        place = Path(entry["link"])
        if entry["state"] == "stale":
            place.unlink()
        if entry["state"] != "linked":
            try:
                place.symlink_to(entry["target"], target_is_directory=True)
            except OSError as error:
                raise OSError(
                    f"found no way to link {place} ({error}); expected a folder that you may write. Mend: use an environment of "
                    "your own, or neurobridge.brainscore.register() in each process."
                ) from error
    return [Path(entry["link"]) for entry in places.values()]


def unlink(library: str | os.PathLike[str] | None = None) -> list[Path]:
    """Remove what `link` wrote, and nothing else.

    Parameters
    ----------
    library : path, optional
        As in `status`.

    Returns
    -------
    list of Path
        The links that were removed; empty where there was none.

    Examples
    --------
    >>> import os
    >>> for kind in ("metrics", "benchmarks"):
    ...     os.makedirs(f"library/{kind}")
    >>> _ = link("library")
    >>> len(unlink("library")), unlink("library")
    (2, [])
    """
    removed = []
    for entry in status(library).values():
        if entry["state"] in ("linked", "stale"):
            Path(entry["link"]).unlink()
            removed.append(Path(entry["link"]))
    return removed
