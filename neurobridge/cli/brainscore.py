"""`neurobridge brainscore ...`: links into the installed Brain-Score."""

from __future__ import annotations

import typer

from neurobridge.cli.common import Json, print_json, print_tables

brainscore_app = typer.Typer(
    no_args_is_help=True,
    help="Link our metrics and benchmarks into the installed Brain-Score, and take them out again.",
)


@brainscore_app.command("link")
def link_command(as_json: Json = False) -> None:
    """Link the plugin folders into brainscore_vision, so that load_metric and load_benchmark find their contents."""
    from neurobridge import brainscore

    links = [str(path) for path in brainscore.link()]
    if as_json:
        print_json(links)
    else:
        typer.echo("\n".join(f"linked {path}" for path in links))


@brainscore_app.command("unlink")
def unlink_command(as_json: Json = False) -> None:
    """Remove the links that `link` made, and nothing else."""
    from neurobridge import brainscore

    removed = [str(path) for path in brainscore.unlink()]
    if as_json:
        print_json(removed)
    else:
        typer.echo("\n".join(f"removed {path}" for path in removed) or "nothing was linked")


@brainscore_app.command("status")
def status_command(as_json: Json = False) -> None:
    """Show which plugin folders are linked, and the environment variables that Brain-Score should be run with."""
    from neurobridge import brainscore

    links = brainscore.status()
    if as_json:
        print_json({"links": links, "environment": brainscore.SAFE_ENVIRONMENT})
        return
    rows = [[kind, entry["state"], entry["link"]] for kind, entry in links.items()]
    columns = ["plugins", "state", "link"]
    print_tables([{"title": "Links into Brain-Score", "columns": columns, "rows": rows, "left": columns}])
    typer.echo("\n".join(f"export {name}={value}" for name, value in brainscore.SAFE_ENVIRONMENT.items()))
