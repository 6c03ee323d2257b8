"""`penstock fqdn`: what endpoints have learnt from DNS, and what that opens."""

from __future__ import annotations

import sys
from typing import Any, Final

import click

from proxy.api.client import AgentError, Parameters
from proxy.cli.output import agent_options, client, echo_json, echo_table, failure, output_option

_ROUTE: Final = "/v1/fqdn/cache"
_SHOWN: Final = 8
"""Addresses of a name that a line of a table shows; -o json has all."""

_endpoint_option = click.option("-e", "--endpoint", type=int, metavar="ID", help="Only this endpoint's.")
_pattern_option = click.option(
    "-p", "--matchpattern", metavar="PATTERN", help="Only names like this, as in matchPattern of a policy."
)


@click.group(no_args_is_help=True)
def fqdn() -> None:
    """Show and forget what endpoints have learnt from DNS, and what that opens.

    \b
    Examples:
      penstock fqdn cache list
      penstock fqdn names
      penstock fqdn cache clean -p '*.example.com'
    """


@fqdn.group(no_args_is_help=True)
def cache() -> None:
    """Names that endpoints have looked up.

    \b
    Examples:
      penstock fqdn cache list -e 4711
      penstock fqdn cache clean -e 4711
    """


@cache.command("list")
@_endpoint_option
@_pattern_option
@click.option("-s", "--source", type=click.Choice(["lookup", "connection"]), help="Only what this keeps.")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@agent_options
def cache_list(
    endpoint: int | None, matchpattern: str | None, source: str | None, no_headers: bool, output: str, socket_path: str
) -> None:
    """List names with their addresses, and until when they count. Source `connection`: the time is up, but a connection
    lives on.

    \b
    Examples:
      penstock fqdn cache list
      penstock fqdn cache list -e 4711 -p '*.example.com'
      penstock fqdn cache list -o json | jq '.[].fqdn'
    """
    parameters = _parameters(endpoint=endpoint, matchpattern=matchpattern, source=source)
    found = _get(socket_path, _ROUTE, parameters)
    if output == "json":
        echo_json(found)
        return
    if not found:
        click.echo("No names: no endpoint has looked up any such name.", err=True)
        return
    rows = [
        [
            str(item["endpoint-id"]),
            item["source"],
            item["fqdn"],
            str(item["ttl"]),
            item["expiration-time"],
            _addresses(item["ips"]),
        ]
        for item in found
    ]
    echo_table([["Endpoint", "Source", "FQDN", "TTL", "ExpirationTime", "IPs"], *rows], no_headers=no_headers)


@cache.command("clean")
@_endpoint_option
@_pattern_option
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@agent_options
def cache_clean(endpoint: int | None, matchpattern: str | None, force: bool, socket_path: str) -> None:
    """Forget names, and close the addresses that they have opened, also under connections. Lookups open them again.

    \b
    Examples:
      penstock fqdn cache clean -p '*.example.com'
      penstock fqdn cache clean -e 4711 --force
    """
    what = f"names like {matchpattern}" if matchpattern else "all names"
    whose = f"endpoint {endpoint}" if endpoint is not None else "all endpoints"
    if not force:
        if not sys.stdin.isatty():
            raise click.UsageError(f"this ends connections to {what} of {whose}: confirm it with --force.")
        click.confirm(f"Forget {what} of {whose}, and end connections to them?", abort=True)
    parameters = _parameters(endpoint=endpoint, matchpattern=matchpattern)
    try:
        count = client(socket_path).delete(_ROUTE, parameters)["forgotten"]
    except AgentError as error:
        raise failure(error) from None
    click.echo(f"{count} name{'' if count == 1 else 's'} forgotten.")


@fqdn.command()
@_endpoint_option
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@agent_options
def names(endpoint: int | None, no_headers: bool, output: str, socket_path: str) -> None:
    """List the selectors of `toFQDNs` in endpoints' policies, with the names and addresses that they mean now.

    \b
    Examples:
      penstock fqdn names
      penstock fqdn names -e 4711
      penstock fqdn names -o json | jq '.[] | select(.names == [])'
    """
    found = _get(socket_path, "/v1/fqdn/names", _parameters(endpoint=endpoint))
    if output == "json":
        echo_json(found)
        return
    if not found:
        click.echo("No selectors: no such endpoint has a policy with toFQDNs.", err=True)
        return
    rows = [row for item in found for row in _rows(item)]
    echo_table([["Endpoint", "Selector", "Identities", "FQDN", "IPs"], *rows], no_headers=no_headers)


def _rows(item: dict[str, Any]) -> list[list[str]]:
    told = [[name["fqdn"], _addresses(name["ips"])] for name in item["names"]] or [["", ""]]
    identities = ",".join(map(str, item["identities"]))
    head = [str(item["endpoint-id"]), item["matchName"] or item["matchPattern"] or ".", identities]
    first, *more = told
    return [[*head, *first], *(["", "", "", *cells] for cells in more)]


def _addresses(texts: list[str]) -> str:
    more = len(texts) - _SHOWN
    return ",".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _parameters(**given: object) -> Parameters:
    return [(name, str(value)) for name, value in given.items() if value is not None]


def _get(socket_path: str, route: str, parameters: Parameters) -> Any:
    try:
        return client(socket_path).get(route, parameters)
    except AgentError as error:
        raise failure(error) from None
