"""`penstock policy`: validate files without an agent, show what an agent has in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from proxy.cli.output import Failure, agent_options, ask, echo_json, echo_table, output_option
from proxy.flows.printers import clean


@click.group(no_args_is_help=True)
def policy() -> None:
    """Check policy files, show policies in force.

    \b
    Examples:
      penstock policy validate policies/
      penstock policy get
    """


@policy.command("validate")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--endpoints-file", type=click.Path(path_type=Path), metavar="FILE", help="Check this one, too.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@output_option("text", "json")
@click.pass_context
def validate_command(
    ctx: click.Context, paths: tuple[Path, ...], endpoints_file: Path | None, strict: bool, output: str
) -> None:
    """Check policy files and folders, without an agent. Exit code 1 if anything is wrong.

    \b
    Examples:
      penstock policy validate policies/
      penstock policy validate --strict web.yaml api.yaml
      penstock policy validate -o json policies/ | jq '.files[].findings[]'
    """
    from config.policy.validate import validate

    report = validate(paths, endpoints_file, strict=strict)
    if output == "json":
        echo_json(report.to_json())
    else:
        for line in report.to_text().splitlines():
            click.echo(clean(line))
        names = ", ".join(str(path) for path in paths)
        if report.valid:
            click.echo(f"All policy elements in {names} are valid.")
        else:
            click.echo(f"Validation of policy {names} has failed.", err=True)
    if not report.valid:
        ctx.exit(1)


@policy.command()
@click.argument("name", required=False, metavar="[[NAMESPACE/]NAME]")
@output_option("json", "table")
@agent_options
def get(name: str | None, output: str, socket_path: str) -> None:
    """Print the policies in force and their revision.

    \b
    Examples:
      penstock policy get
      penstock policy get web/api -o table
    """
    body = ask(socket_path, "/v1/policy")
    items = [item for item in body["policy"] if name is None or _is_named(item, name)]
    if name is not None and not items:
        raise Failure(f"no policy {name!r} is in force", "see `penstock policy get -o table`")
    if output == "table":
        echo_table([["KIND", "NAMESPACE", "NAME", "RULE", "FILE", "ENDPOINTS"], *_rows(items)])
    else:
        echo_json(items)
    click.echo(f"Revision: {body['revision']}")


def _is_named(item: dict[str, Any], name: str) -> bool:
    namespace, slash, bare = name.rpartition("/")
    return item["name"] == bare and (not slash or item["namespace"] == namespace)


def _rows(items: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            item["kind"],
            item["namespace"],
            item["name"],
            rule["rule"],
            f"{rule['file']}:{rule['line']}" if rule["file"] else "",
            str(len(item.get("endpoints", ()))),
        ]
        for item in items
        for rule in item["rules"]
    ]
