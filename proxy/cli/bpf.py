"""`penstock bpf`: the kernel's tables as they are now, read from where they are pinned. Works without an agent, too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import click

from proxy.api.client import AgentError
from proxy.cli.output import Failure, bpf_root_option, client, default_socket, echo_json, echo_table, output_option
from proxy.flows.reasons import identity_text
from proxy.flows.summary import socket_text

_PROTOCOLS: Final = {0: "ANY", 1: "ICMP", 6: "TCP", 17: "UDP", 58: "ICMPv6", 132: "SCTP"}
_DIRECTIONS: Final = ("Ingress", "Egress")
_NONE: Final = "-"


@contextmanager
def _maps(bpf_root: Path) -> Iterator[Any]:
    from proxy.datapath import BpfError, pinned_maps

    try:
        with pinned_maps(bpf_root) as maps:
            yield maps
    except BpfError as error:
        hint = "" if os.geteuid() == 0 else "reading the kernel's maps needs root: try again with sudo"
        raise Failure(str(error), hint) from None


class _Labels:
    """Identity → what to call it; from the agent if one answers, else numbers."""

    def __init__(self, *, numeric: bool) -> None:
        self._labels: dict[int, list[str]] = {}
        if not numeric:
            try:
                found = client(os.environ.get("PENSTOCK_SOCK") or str(default_socket())).get("/v1/identity")
                self._labels = {item["id"]: item["labels"] for item in found}
            except AgentError as error:
                click.echo(f"identities are shown as numbers: {error.message}", err=True)

    def of(self, identity: int) -> list[str]:
        if identity == 0:
            return ["ANY"]
        from proxy.datapath import SERVICE_IDENTITY

        if identity == SERVICE_IDENTITY:
            return ["service"]
        return self._labels.get(identity) or [identity_text(identity)]


@click.group(no_args_is_help=True)
def bpf() -> None:
    """Show the kernel's tables as they are now. Needs root, but no agent.

    \b
    Examples:
      sudo penstock bpf policy get 4711
      sudo penstock bpf ipcache list
      sudo penstock bpf names list
      sudo penstock bpf ct list
      sudo penstock bpf metrics list
    """


@bpf.group(no_args_is_help=True)
def policy() -> None:
    """Policies of endpoints."""


@policy.command("get")
@click.argument("endpoint", type=int, required=False, metavar="ENDPOINT")
@click.option("--all", "everything", is_flag=True, help="Every endpoint's.")
@click.option("-n", "--numeric", is_flag=True, help="Identities as numbers.")
@output_option("table", "json")
@bpf_root_option
def policy_get(endpoint: int | None, everything: bool, numeric: bool, output: str, bpf_root: Path) -> None:
    """Show the rows of an endpoint's policy, as the programs look them up: per direction the stronger of the peer's own
    row and the one for ANY; deny before redirect before allow.

    \b
    Examples:
      sudo penstock bpf policy get 4711
      sudo penstock bpf policy get --all -n
      sudo penstock bpf policy get --all -o json | jq '.[].rows[] | select(.policy == "Deny")'
    """
    if everything == (endpoint is not None):
        raise click.UsageError("give the number of an endpoint (see `penstock endpoint list`) or --all.")
    with _maps(bpf_root) as maps:
        known = {one.id: one for one in maps.endpoints()}
        if endpoint is not None and endpoint not in known:
            raise Failure(f"the kernel has no endpoint {endpoint}", "see `penstock bpf endpoint list`")
        chosen = [known[endpoint]] if endpoint is not None else list(known.values())
        found = [(one, maps.policy(one.policy_id)) for one in chosen]
    if output == "json":
        echo_json([{"endpoint": one.id, "rows": [_row_json(row) for row in rows]} for one, rows in found])
        return
    labels = _Labels(numeric=numeric)
    for one, rows in found:
        if everything:
            click.echo(f"Endpoint ID: {one.id}")
        for direction in (0, 1):
            if not one.flags & (1, 2)[direction]:
                click.echo(f"{_DIRECTIONS[direction]} is not enforced.")
        header = "IDENTITY" if numeric else "LABELS (source:key[=value])"
        table = [["POLICY", "DIRECTION", header, "PORT/PROTO", "PROXY", "RULE", "TRIED OUT", "PREFIX"]]
        for row in rows:
            first, *more = labels.of(row.identity)
            table.append([_word(row), _DIRECTIONS[row.direction], first, _port(row), _proxy(row), *_rule(row)])
            table += [["", "", label] for label in more]
        echo_table(table)
        if everything:
            click.echo()


def _word(row: Any) -> str:
    name: str = row.verdict.name
    return {"REDIRECT": "Allow", "NONE": "(none)"}.get(name, name.capitalize())


def _proxy(row: Any) -> str:
    return "yes" if row.verdict.name == "REDIRECT" else "NONE"


def _rule(row: Any) -> tuple[str, str, str]:
    return str(row.rule or _NONE), str(row.audited or _NONE), str(row.port_bits + 8 if row.protocol else 0)


def _port(row: Any) -> str:
    if not row.protocol:
        return "ANY"
    protocol = _PROTOCOLS.get(row.protocol, str(row.protocol))
    first, last = row.ports
    if row.port_bits == 0:
        return f"ANY/{protocol}"
    return f"{first}/{protocol}" if first == last else f"{first}-{last}/{protocol}"


def _row_json(row: Any) -> dict[str, Any]:
    first, last = row.ports
    return {
        "policy": _word(row),
        "direction": _DIRECTIONS[row.direction],
        "identity": row.identity,
        "protocol": _PROTOCOLS.get(row.protocol, str(row.protocol)),
        "ports": [first, last] if row.protocol else [0, 65535],
        "proxy": row.verdict.name == "REDIRECT",
        "rule": row.rule,
        "triedOut": row.audited,
    }


@bpf.group(no_args_is_help=True)
def ipcache() -> None:
    """Prefixes and their identities."""


@ipcache.command("list")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@bpf_root_option
def ipcache_list(no_headers: bool, output: str, bpf_root: Path) -> None:
    """List every prefix with its identity; the longest prefix that covers an address counts.

    \b
    Examples:
      sudo penstock bpf ipcache list
      sudo penstock bpf ipcache list -o json | jq length
    """
    with _maps(bpf_root) as maps:
        prefixes = maps.ipcache()
    if output == "json":
        echo_json([{"prefix": str(network), "identity": identity} for network, identity in prefixes])
        return
    rows = [[str(network), _identity(identity)] for network, identity in prefixes]
    echo_table([["IP PREFIX/ADDRESS", "IDENTITY"], *rows], no_headers=no_headers)


@ipcache.command("get")
@click.argument("address")
@bpf_root_option
def ipcache_get(address: str, bpf_root: Path) -> None:
    """Say which prefix and identity an address has.

    \b
    Examples:
      sudo penstock bpf ipcache get 10.0.1.7
    """
    try:
        wanted = ip_address(address)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    with _maps(bpf_root) as maps:
        covering = [one for one in maps.ipcache() if one[0].version == wanted.version and wanted in one[0]]
    if not covering:
        click.echo(f"{wanted} is covered by no prefix: it is world-ipv{wanted.version}", err=True)
        raise click.exceptions.Exit(1)
    network, identity = max(covering, key=lambda one: int(one[0].prefixlen))
    click.echo(f"{wanted} maps to {_identity(identity)} by {network}")


@bpf.group(no_args_is_help=True)
def names() -> None:
    """Addresses that answers to DNS queries have opened."""


@names.command("list")
@click.option("-e", "--endpoint", type=int, help="Only those of this endpoint.")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@bpf_root_option
def names_list(endpoint: int | None, no_headers: bool, output: str, bpf_root: Path) -> None:
    """List what is open for which endpoint: by identities of groups of names (`toFQDNs`), each until its time is over.
    `penstock fqdn cache list` tells the names.

    \b
    Examples:
      sudo penstock bpf names list
      sudo penstock bpf names list -e 4711 -o json
    """
    with _maps(bpf_root) as maps:
        found = [one for one in maps.names() if endpoint in (None, one.endpoint)]
    if output == "json":
        echo_json(
            [
                {"endpoint": one.endpoint, "address": str(one.address), "identity": one.identity, "left": one.left_s}
                for one in found
            ]
        )
        return
    rows = [[str(one.endpoint), str(one.address), str(one.identity), f"{one.left_s}s"] for one in found]
    echo_table([["ENDPOINT", "ADDRESS", "IDENTITY", "LEFT"], *rows], no_headers=no_headers)


def _identity(identity: int) -> str:
    """Cilium's words; what Penstock has nothing of is always the same."""
    from proxy.datapath import SERVICE_IDENTITY

    flags = "service" if identity == SERVICE_IDENTITY else "<none>"
    return f"identity={identity} encryptkey=0 tunnelendpoint=0.0.0.0 flags={flags}"


@bpf.group(no_args_is_help=True)
def ct() -> None:
    """Flows that the programs know."""


@ct.command("list")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@bpf_root_option
def ct_list(no_headers: bool, output: str, bpf_root: Path) -> None:
    """List flows, who began them first. An entry is looked at when a packet comes by, so old ones stay until then.

    \b
    Examples:
      sudo penstock bpf ct list
      sudo penstock bpf ct list | grep refused
      sudo penstock bpf ct list -o json | jq '.[] | select(.destinationPort == 80)'
    """
    with _maps(bpf_root) as maps:
        flows = maps.flows()
    if output == "json":
        echo_json([_flow_json(flow) for flow in flows])
        return
    table = [["PROTO", "FROM", "TO", "VERDICT", "STATE", "IDLE"]]
    for flow in flows:
        ends = [
            socket_text(str(flow.source), flow.source_port),
            socket_text(str(flow.destination), flow.destination_port),
        ]
        table.append(
            [_PROTOCOLS.get(flow.protocol, "?"), *ends, _verdict(flow), ",".join(_states(flow)), f"{flow.idle_s:.0f}s"]
        )
    echo_table(table, no_headers=no_headers)


def _verdict(flow: Any) -> str:
    from proxy.datapath import reason_text

    if flow.verdict < 0:
        return f"refused ({reason_text(-flow.verdict)})"
    if "SERVICE" in _names(flow):
        return "to a service"
    return "proxy" if flow.verdict else "allowed"


def _names(flow: Any) -> list[str]:
    return [flag.name for flag in type(flow.flags) if flag in flow.flags]


def _states(flow: Any) -> list[str]:
    kept = [name for name in _names(flow) if name in ("UPSTREAM", "MIDSTREAM", "REPLIED", "CLOSED")]
    return [name.lower() for name in kept] or ["new"]


def _flow_json(flow: Any) -> dict[str, Any]:
    return {
        "protocol": _PROTOCOLS.get(flow.protocol, str(flow.protocol)),
        "source": str(flow.source),
        "sourcePort": flow.source_port,
        "destination": str(flow.destination),
        "destinationPort": flow.destination_port,
        "verdict": flow.verdict,
        "flags": [name.lower() for name in _names(flow)],
        "epoch": flow.epoch,
        "idleSeconds": round(flow.idle_s, 1),
        "rules": {"ingress": flow.rules[0], "egress": flow.rules[1]},
        "origin": flow.origin,
    }


@bpf.group(no_args_is_help=True)
def metrics() -> None:
    """Counters of packets and bytes."""


@metrics.command("list")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@bpf_root_option
def metrics_list(no_headers: bool, output: str, bpf_root: Path) -> None:
    """List how many packets were forwarded, and how many dropped for which reason, since the maps were made.

    \b
    Examples:
      sudo penstock bpf metrics list
    """
    from proxy.datapath import reason_text

    with _maps(bpf_root) as maps:
        counts = maps.metrics()
    named = [(reason_text(one.reason) if one.reason else "Success", one) for one in counts]
    if output == "json":
        items = [
            {"reason": words, "code": one.reason, "direction": _DIRECTIONS[one.direction].upper()}
            | {"packets": one.packets, "bytes": one.bytes}
            for words, one in named
        ]
        echo_json(items)
        return
    rows = [[words, _DIRECTIONS[one.direction].upper(), str(one.packets), str(one.bytes)] for words, one in named]
    echo_table([["REASON", "DIRECTION", "PACKETS", "BYTES"], *rows], no_headers=no_headers)


@bpf.group("endpoint", no_args_is_help=True)
def endpoints() -> None:
    """Endpoints of this node."""


@endpoints.command("list")
@click.option("--no-headers", is_flag=True, help="Rows only.")
@output_option("table", "json")
@bpf_root_option
def endpoint_list(no_headers: bool, output: str, bpf_root: Path) -> None:
    """List the addresses that are enforced on this node.

    \b
    Examples:
      sudo penstock bpf endpoint list
    """
    with _maps(bpf_root) as maps:
        found = maps.endpoints()
    items = [
        {
            "address": str(one.address),
            "id": one.id,
            "identity": one.identity,
            "interface": one.ifindex,
            "flags": [flag.name.lower().replace("_", "-") for flag in type(one.flags) if flag in one.flags],
        }
        for one in found
    ]
    if output == "json":
        echo_json(items)
        return
    rows = [
        [
            item["address"],
            str(item["id"]),
            str(item["identity"]),
            str(item["interface"]),
            ",".join(item["flags"]) or _NONE,
        ]
        for item in items
    ]
    echo_table([["IP ADDRESS", "ENDPOINT", "IDENTITY", "IFINDEX", "FLAGS"], *rows], no_headers=no_headers)
