"""How the commands hang together: loaded when used, failing with one line on standard error."""

from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click


class Exampled(click.Command):
    """A command or group whose help ends with an example: `example="ingest ..."`."""

    def __init__(self, *arguments: Any, example: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.example = example

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the example below the options."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


class ExampleCommand(Exampled):
    """A command with an example: `cls=ExampleCommand, example="ingest ..."`."""


class ExampleGroup(Exampled, click.Group):
    """A group of commands with an example of them: `cls=ExampleGroup, example="ingest ..."`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the first argument names. Raises UsageError, with the one that was meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as unknown:
            if not (meant := get_close_matches(args[0], self.list_commands(ctx), 1)):
                raise
            raise click.UsageError(f"{unknown.message} Did you mean '{meant[0]}'?", ctx) from None


class LazyGroup(ExampleGroup):
    """A group whose commands are imported when they run, so that `ingest --help` answers at once.

    `lazy` maps a command's name to its module under `ingest.cli`, the function there, and its line in the help.
    """

    def __init__(self, *arguments: Any, lazy: Mapping[str, tuple[str, str, str]], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order that they were given in."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, imported now, or None where there is none of that name."""
        if cmd_name not in self._lazy:
            return None
        module, function, _help = self._lazy[cmd_name]
        command: click.Command = getattr(import_module(f"ingest.cli.{module}"), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table alone, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, told) for name, (_module, _function, told) in self._lazy.items()])
