"""A command group that imports the module of a command when the command is called."""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from neurobridge.cli.common import output_switches


class LazyCommand(NamedTuple):
    """The place of a command and the line that stands for it in the help of its group.

    Attributes
    ----------
    place : str
        ``module:attribute``, a function or a `typer.Typer`.
    help : str
        First sentence of the command's help.
    """

    place: str
    help: str

    def load(self, name: str) -> Any:
        """Import the command and make it ready to be called under a name."""
        module, _, attribute = self.place.partition(":")
        command = getattr(import_module(module), attribute)
        app = command
        if not isinstance(command, typer.Typer):
            app = typer.Typer(add_completion=False)
            app.command(name)(command)
        made = typer.main.get_command(app)
        made.name = name
        _add_switches(made)
        return made


def _add_switches(command: Any) -> None:
    """Give every command below the switches that all have."""
    if isinstance(command, TyperGroup):
        for each in command.commands.values():
            _add_switches(each)
        return
    taken = {word for parameter in command.params for word in parameter.opts}
    command.params += [switch for switch in output_switches() if not taken & set(switch.opts)]


class LazyGroup(TyperGroup):
    """A group whose help and completion list commands without importing their modules.

    Subclasses name their commands in ``lazy_commands``.
    """

    lazy_commands: dict[str, LazyCommand]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name, command in self.lazy_commands.items():
            self.add_command(TyperCommand(name, help=command.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the command itself in the place of its help line, then resolve it."""
        name = args[0]
        if name in self.lazy_commands:
            self.add_command(self.lazy_commands[name].load(name))
        return super().resolve_command(ctx, args)
