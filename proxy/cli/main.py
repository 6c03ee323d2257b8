"""The command group: loads a subcommand when it is used, so that `--help` answers at once.

Exit codes: 0 done, 1 failure or an unhealthy answer, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Final

import click

# name → (module:attribute, one line of help)
_COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "run": ("proxy.cli.run:run", "Run the agent: enforce policies on this node."),
    "status": ("proxy.cli.status:status", "Say how the agent is doing."),
    "observe": ("proxy.cli.observe:observe", "Show flows: what was allowed and denied, and why."),
    "policy": ("proxy.cli.policy:policy", "Check policy files, show policies in force."),
    "endpoint": ("proxy.cli.endpoint:endpoint", "Show the workloads that policies select."),
    "identity": ("proxy.cli.identity:identity", "Show security identities and their labels."),
    "fqdn": ("proxy.cli.fqdn:fqdn", "Show and forget what DNS names have opened."),
    "monitor": ("proxy.cli.monitor:monitor", "Show what the kernel drops and lets begin, as it happens."),
    "bpf": ("proxy.cli.bpf:bpf", "Show the kernel's tables, with or without an agent."),
    "check": ("proxy.cli.check:check", "Say what this kernel and these privileges can do."),
    "lab": ("proxy.cli.lab:lab", "Try policies in network namespaces of this machine."),
    "cleanup": ("proxy.cli.cleanup:cleanup", "Remove everything Penstock left in the kernel."),
    "version": ("proxy.cli.version:version", "Print versions."),
}
_ALIASES: Final = {"flows": "observe", "endpoints": "endpoint", "identities": "identity", "policies": "policy"}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(_ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        module, _, attribute = entry[0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # What is still buffered would raise again when the interpreter flushes stdout at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = get_close_matches(name, _COMMANDS, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Commands: {', '.join(_COMMANDS)}."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
def penstock() -> None:
    """Penstock enforces identity-aware L3-L7 network policy on this node, without sidecars.

    \b
    Examples:
      penstock run --policy-dir policies/ --endpoints-file endpoints.yaml
      penstock observe --follow --verdict DROPPED
      penstock policy validate policies/
      penstock COMMAND --help
    """


def main(arguments: list[str] | None = None) -> Any:
    """Entry point. Ctrl-C and a reader that has gone (`| head`) end quietly."""
    try:
        code = penstock.main(arguments, prog_name="penstock", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Aborted.", err=True)
        code = 1
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    sys.exit(code)
