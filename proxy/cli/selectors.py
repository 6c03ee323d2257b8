"""`penstock policy selectors`: whom the peers of policies mean now."""

from __future__ import annotations

from typing import Any

import click

from proxy.cli.output import agent_options, ask, echo_json, echo_table, output_option

SHOWN = 8
"""Identities that a line of the table shows; -v shows all."""


@click.command("selectors")
@click.option("-v", "--verbose", is_flag=True, help="All identities, one in a line.")
@output_option("table", "json")
@agent_options
def selectors_command(verbose: bool, output: str, socket_path: str) -> None:
    """List the peers that policies name, who names them, and the identities that they mean now.

    \b
    Examples:
      penstock policy selectors
      penstock policy selectors -v
      penstock policy selectors -o json | jq '.[] | select(.identities == [])'
    """
    body = ask(socket_path, "/v1/policy/selectors")
    if output == "json":
        echo_json(body)
        return
    rows = [["SELECTOR", "LABELS", "USERS", "IDENTITIES"]]
    for item in body:
        rows.extend(_rows(item, verbose))
    echo_table(rows)


def _rows(item: dict[str, Any], verbose: bool) -> list[list[str]]:
    numbers = [str(number) for number in item["identities"]]
    users = [
        f"{label['namespace']}/{label['name']}" if label["namespace"] else label["name"] for label in item["labels"]
    ]
    first = [item["selector"], ", ".join(users), str(item["users"])]
    if verbose:
        return [[*first, numbers[0] if numbers else ""], *(["", "", "", number] for number in numbers[1:])]
    more = len(numbers) - SHOWN
    return [[*first, " ".join(numbers[:SHOWN]) + (f" and {more} more" if more > 0 else "")]]
