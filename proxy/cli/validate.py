"""`penstock policy validate` and `penstock policy codes`: what is wrong with policy files, without an agent."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from proxy.cli.output import Failure, echo_json, echo_table, output_option
from proxy.cli.version import own_version
from proxy.flows.printers import clean

if TYPE_CHECKING:
    from config.policy.load import LoadedFile
    from config.policy.validate import Report

PATIENCE_S: Final = 2.0
"""After this time a terminal is told how far the work is."""


@click.command("validate")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option(
    "--endpoints",
    "--endpoints-file",
    "endpoints",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Endpoints, or Kubernetes manifests; repeatable. Says what selects nobody.",
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("-q", "--quiet", is_flag=True, help="Show only what counts as an error.")
@output_option("text", "json", "github", "sarif")
@click.pass_context
def validate_command(
    ctx: click.Context, paths: tuple[Path, ...], endpoints: tuple[Path, ...], strict: bool, quiet: bool, output: str
) -> None:
    """Check policy files and folders, without an agent. Exit code 1 if anything is wrong.

    Errors are what the agent would refuse. Warnings and notes are about policies that may not do what they look like;
    a policy with the annotation `policy.penstock.io/ignore: "CNP325,CNP331"` does not get these.

    \b
    Examples:
      penstock policy validate policies/
      penstock policy validate --strict web.yaml api.yaml
      penstock policy validate --endpoints pods.yaml policies/
      penstock policy validate -o json policies/ | jq '.files[].findings[]'
      penstock policy validate -o sarif policies/ > policies.sarif
    """
    from config.policy.validate import validate

    progress = Progress()
    report = validate(paths, endpoints, strict=strict, lint=True, progress=progress.step)
    progress.end()
    if output == "text":
        _print_text(report, paths, quiet)
    else:
        _print(report.only_errors() if quiet else report, output)
    if not report.valid:
        ctx.exit(1)


def _print_text(report: Report, paths: tuple[Path, ...], quiet: bool) -> None:
    for line in report.to_text(quiet=quiet).splitlines():
        click.echo(clean(line))
    names = clean(", ".join(str(path) for path in paths))
    if report.valid:
        click.echo(f"All policy elements in {names} are valid.")
    else:
        click.echo(f"Validation of policy {names} has failed.", err=True)


def _print(report: Report, output: str) -> None:
    from proxy.cli.reports import github_lines, sarif

    findings = [finding for file in report.files for finding in file.findings]
    if output == "json":
        echo_json(report.to_json())
    elif output == "sarif":
        echo_json(sarif(findings, own_version()))
    else:
        for line in github_lines(findings):
            click.echo(line)


class Progress:
    """Tells a terminal how many files are done, when that takes long."""

    def __init__(self) -> None:
        self._begin = self._told = time.monotonic()
        self._files = 0
        self._is_shown = sys.stderr.isatty()

    def step(self, _file: LoadedFile) -> None:
        self._files += 1
        now = time.monotonic()
        if self._is_shown and now - self._begin > PATIENCE_S and now - self._told > 0.1:
            self._told = now
            click.echo(f"\r{self._files} files read", err=True, nl=False)

    def end(self) -> None:
        if self._told != self._begin:
            click.echo("\r\x1b[K", err=True, nl=False)


@click.command("codes")
@click.argument("code", required=False, metavar="[CODE]")
@output_option("text", "json")
def codes_command(code: str | None, output: str) -> None:
    """Say what the codes of findings mean, and what helps.

    \b
    Examples:
      penstock policy codes
      penstock policy codes CNP320
      penstock policy codes -o json | jq '.[] | select(.severity == "warning")'
    """
    from config import codes

    known = sorted(codes.ALL.values(), key=lambda item: item.id)
    chosen = [item for item in known if code is None or item.id == code.upper()]
    if not chosen:
        raise Failure(f"no code {code!r}", "see `penstock policy codes`")
    if output == "json":
        echo_json(
            [
                {"code": item.id, "severity": item.severity.value, "title": item.title, "hint": item.hint}
                for item in chosen
            ]
        )
    else:
        echo_table([["CODE", "SEVERITY", "MEANING", "HINT"], *([c.id, c.severity, c.title, c.hint] for c in chosen)])


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of policy files, with which editors check and complete them.

    \b
    Examples:
      penstock policy schema > policy.schema.json
    """
    from config.schema import policy_schema

    echo_json(policy_schema())
