"""`penstock check`: what this kernel and these privileges can do, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import click

from proxy.cli.output import echo_json, echo_table, output_option

_ADVICE: Final = ("net.", "TCX", "nftables")
"""Features that begin so are not needed everywhere: settings of a machine with IPv4 only, say, or services."""


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ok: bool
    why: str

    @property
    def is_required(self) -> bool:
        return not self.name.startswith(_ADVICE)

    @property
    def result(self) -> str:
        return "ok" if self.ok else "MISSING" if self.is_required else "warning"


@click.command()
@output_option("table", "json")
@click.pass_context
def check(ctx: click.Context, output: str) -> None:
    """Say what this kernel and these privileges can do. Changes nothing; exit code 1 if something needed is missing.

    \b
    Examples:
      sudo penstock check
      penstock check -o json | jq '.[] | select(.ok | not)'
    """
    from proxy.datapath import probe

    checks = [Check(feature.name, feature.ok, feature.why) for feature in probe()]
    if output == "json":
        echo_json([{"name": c.name, "ok": c.ok, "required": c.is_required, "why": c.why} for c in checks])
    else:
        echo_table([["CHECK", "RESULT", "DETAIL"], *([c.name, c.result, c.why] for c in checks)])
    missing = [c.name for c in checks if c.is_required and not c.ok]
    if missing:
        click.echo(f"Penstock cannot enforce here: {', '.join(missing)}.", err=True)
        ctx.exit(1)
