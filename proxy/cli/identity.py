"""`penstock identity`: security identities, the numbers that label sets have in kernel and flows."""

from __future__ import annotations

import click

from proxy.cli.output import Failure, agent_options, ask, echo_json, echo_table, output_option
from proxy.flows.reasons import identity_number


@click.group(no_args_is_help=True)
def identity() -> None:
    """Show security identities and their labels.

    \b
    Examples:
      penstock identity list
      penstock identity get world
    """


@identity.command("list")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@click.option("--endpoints", is_flag=True, help="Only those that endpoints have, with how many.")
@output_option("table", "json")
@agent_options
def list_identities(no_headers: bool, endpoints: bool, output: str, socket_path: str) -> None:
    """List identities, one label per line.

    \b
    Examples:
      penstock identity list
      penstock identity list --endpoints
      penstock identity list -o json
    """
    items = [item for item in ask(socket_path, "/v1/identity") if item["refcount"] or not endpoints]
    if output == "json":
        echo_json(items)
        return
    rows = [["ID", "LABELS", *(["REFCOUNT"] if endpoints else [])]]
    for item in items:
        first, *more = item["labels"] or [""]
        rows.append([str(item["id"]), first, *([str(item["refcount"])] if endpoints else [])])
        rows += [["", label] for label in more]
    echo_table(rows, no_headers=no_headers)


@identity.command()
@click.argument("wanted", metavar="ID|NAME")
@agent_options
def get(wanted: str, socket_path: str) -> None:
    """Print one identity as JSON.

    \b
    Examples:
      penstock identity get 4711
      penstock identity get kube-apiserver
    """
    number = identity_number(wanted)
    if number is None:
        raise click.UsageError(f"{wanted!r} is neither a number nor the name of a reserved identity.")
    found = [item for item in ask(socket_path, "/v1/identity") if item["id"] == number]
    if not found:
        raise Failure(f"the agent has no identity {number}", "see `penstock identity list`")
    echo_json(found)
