"""What all commands share: tables, JSON, the API client from the options, failures that say how to fix them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from proxy import api
from proxy.api.client import AgentError, Client
from proxy.flows.jsonpb import harmless
from proxy.flows.printers import clean
from proxy.flows.table import render

DEFAULT_STATE_DIR: Final = Path("/run/penstock")
DEFAULT_BPF_ROOT: Final = Path("/sys/fs/bpf/penstock")

_F = TypeVar("_F", bound=Callable[..., Any])


class Failure(click.ClickException):
    """Exit code 1: what happened, and on a second line how to fix it."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\n  {hint}" if hint else message)


def agent_options(function: _F) -> _F:
    """`--socket`: where the agent listens."""
    return click.option(
        "--socket",
        "socket_path",
        metavar="PATH",
        default=lambda: os.environ.get("PENSTOCK_SOCK") or str(default_socket()),
        help="The agent's socket.  [env PENSTOCK_SOCK; default: /run/penstock/penstock.sock]",
    )(function)


def output_option(*formats: str) -> Callable[[_F], _F]:
    """`-o`: the first format is the default."""
    kind = click.Choice(formats)
    return click.option("-o", "--output", type=kind, default=formats[0], show_default=True, help="Output format.")


def bpf_root_option(function: _F) -> _F:
    """`--bpf-root`: where the agent pins what it leaves in the kernel."""
    return click.option(
        "--bpf-root",
        type=click.Path(path_type=Path),
        default=DEFAULT_BPF_ROOT,
        envvar="PENSTOCK_BPF_ROOT",
        show_default=True,
        metavar="DIR",
        help="Where programs and maps are pinned.",
    )(function)


def default_socket() -> Path:
    state_dir = os.environ.get("PENSTOCK_STATE_DIR")
    return api.socket_path(Path(state_dir) if state_dir else DEFAULT_STATE_DIR)


def client(socket_path: str) -> Client:
    return Client(Path(socket_path.removeprefix("unix://")))


def ask(socket_path: str, route: str, accept: Sequence[int] = (200,)) -> Any:
    """One question to the agent; its trouble is this command's failure."""
    try:
        return client(socket_path).get(route, accept=accept)
    except AgentError as error:
        raise failure(error) from None


def failure(error: AgentError) -> Failure:
    return Failure(error.message, error.hint)


def echo_json(value: object) -> None:
    click.echo(harmless(json.dumps(value, indent=2, ensure_ascii=False)))


def echo_table(rows: Sequence[Sequence[str]], *, no_headers: bool = False) -> None:
    """Rows with their header first, as the tab writers of kubectl and cilium-dbg lay them out."""
    shown = [[clean(cell) for cell in row] for row in (rows[1:] if no_headers else rows)]
    for line in render(shown):
        click.echo(line)


def echo_pairs(pairs: Sequence[tuple[str, str]]) -> None:
    """`Key:   value` lines; further lines of a value are indented below it."""
    width = max((len(key) for key, _ in pairs), default=0) + 4
    for key, value in pairs:
        first, *more = value.splitlines() or [""]
        click.echo(f"{f'{key}:'.ljust(width)}{clean(first)}".rstrip())
        for line in more:
            click.echo(f"{' ' * width}{clean(line)}")


def wants_colour(choice: str) -> bool:
    """`--color`: auto means a terminal, unless NO_COLOR is set (no-color.org)."""
    if choice == "auto":
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return choice == "always"
