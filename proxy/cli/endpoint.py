"""`penstock endpoint`: the workloads that policies select."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import click

from proxy.cli.output import agent_options, ask, echo_json, echo_table, output_option

_HEADER = [
    [
        "ENDPOINT",
        "POLICY (ingress)",
        "POLICY (egress)",
        "IDENTITY",
        "LABELS (source:key[=value])",
        "IPv6",
        "IPv4",
        "STATUS",
    ],
    ["", "ENFORCEMENT", "ENFORCEMENT"],
]


@click.group(no_args_is_help=True)
def endpoint() -> None:
    """Show the workloads that policies select.

    \b
    Examples:
      penstock endpoint list
      penstock endpoint get pod-name:web:frontend-0
    """


@endpoint.command("list")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@agent_options
def list_endpoints(no_headers: bool, output: str, socket_path: str) -> None:
    """List endpoints: enforcement per direction, identity, labels and addresses.

    \b
    Examples:
      penstock endpoint list
      penstock endpoint list -o json | jq '.[].id'
      penstock endpoint list --no-headers | grep Disabled
    """
    endpoints = ask(socket_path, "/v1/endpoint")
    if output == "json":
        echo_json(endpoints)
        return
    if not endpoints:
        click.echo("No endpoints: the endpoints file (--endpoints-file) lists none.", err=True)
        return
    rows = [row for item in endpoints for row in _rows(item)]
    echo_table(rows if no_headers else [*_HEADER, *rows])


@endpoint.command()
@click.argument("name", metavar="ID|pod-name:NAMESPACE:NAME")
@agent_options
def get(name: str, socket_path: str) -> None:
    """Print one endpoint as JSON.

    \b
    Examples:
      penstock endpoint get 4711
      penstock endpoint get pod-name:web:frontend-0
    """
    echo_json([ask(socket_path, f"/v1/endpoint/{quote(name, safe=':')}")])


def _rows(item: dict[str, Any]) -> list[list[str]]:
    status = item["status"]
    enabled = status["policy"]["realized"]["policy-enabled"]
    addresses = status["networking"]["addressing"][0]
    first, *more = status["identity"]["labels"] or [""]
    row = [
        str(item["id"]),
        _enforcement(enabled, "ingress"),
        _enforcement(enabled, "egress"),
        str(status["identity"]["id"]),
        first,
        addresses.get("ipv6", ""),
        addresses.get("ipv4", ""),
        status["state"],
    ]
    return [row, *(["", "", "", "", label] for label in more)]


def _enforcement(enabled: str, direction: str) -> str:
    audit, word = enabled.startswith("audit-"), enabled.removeprefix("audit-")
    if word not in (direction, "both"):
        return "Disabled"
    return "Disabled (Audit)" if audit else "Enabled"
