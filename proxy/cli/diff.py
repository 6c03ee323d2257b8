"""`penstock policy diff`: what changes for whom between two sets of policies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from proxy.cli.output import echo_json, output_option, wants_colour
from proxy.flows.printers import clean

if TYPE_CHECKING:
    from config.policy.diff import Difference

SHOWN = 3
"""Names that a line of text shows."""


@click.command("diff")
@click.argument("before", type=click.Path(path_type=Path), metavar="A")
@click.argument("after", type=click.Path(path_type=Path), metavar="B")
@click.option(
    "--endpoints",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Endpoints, or Kubernetes manifests; repeatable.",
)
@click.option("--enable-policy", type=click.Choice(["default", "always", "never"]), default="default", help="As set.")
@output_option("text", "json")
@click.pass_context
def diff_command(
    ctx: click.Context, before: Path, after: Path, endpoints: tuple[Path, ...], enable_policy: str, output: str
) -> None:
    """Say which connections change between the policies of A and those of B, files or folders, endpoint by endpoint.

    What is written differently but means the same is no difference. Exit code 0 no difference, 1 there is one, 2 wrong
    usage or broken files.

    \b
    Examples:
      penstock policy diff policies/ policies-new/ --endpoints workloads.yaml
      penstock policy diff main.yaml branch.yaml --endpoints pods.yaml -o json | jq '.[].changes'
    """
    from config.policy.diff import difference
    from config.policy.offline import read_files
    from config.settings import Settings

    sides = [read_files((path,), endpoints) for path in (before, after)]
    found = dict.fromkeys(finding for files in sides for finding in (*files.findings, *files.endpoints.findings))
    broken = [finding for finding in found if finding.is_error]
    for finding in broken:
        click.echo(clean(str(finding)), err=True)
    if broken:
        click.echo(f"Error: {len(broken)} errors in these files", err=True)
        ctx.exit(2)
    settings = Settings.model_validate({"enable_policy": enable_policy})
    changes = difference(sides[0].world(settings), sides[1].world(settings))
    if output == "json":
        echo_json([item.to_json() for item in changes])
    else:
        _print(changes)
    if changes:
        ctx.exit(1)


def _print(changes: list[Difference]) -> None:
    colour = wants_colour("auto")
    for item in changes:
        head = f"{_some(item.endpoints)}: {item.direction.name.lower()}"
        if item.enforced[0] is not item.enforced[1]:
            head += ": default deny begins" if item.enforced[1] else ": no longer enforced"
        click.echo(click.style(clean(head), bold=True) if colour else clean(head))
        word = "from" if item.direction.name == "INGRESS" else "to"
        for change in item.changes:
            sign, tone = _tone(change.before, change.after)
            line = f"  {sign} {change.ports} {word} {_some(change.peers)}: {change.before} -> {change.after}"
            click.echo(click.style(clean(line), fg=tone) if colour else clean(line))
    if not changes:
        click.echo("no difference")


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _tone(before: str, after: str) -> tuple[str, str]:
    """What opens, what closes, and what is only judged in another way."""
    if before == "denied":
        return "+", "green"
    if after == "denied":
        return "-", "red"
    return "~", "yellow"
