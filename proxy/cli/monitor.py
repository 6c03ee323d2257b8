"""`penstock monitor`: events of this node as they happen, in the words of `cilium-dbg monitor`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

import click

from proxy.api.client import AgentError
from proxy.cli.output import agent_options, client, failure
from proxy.flows.jsonpb import decode_line, encode_line, harmless
from proxy.flows.model import Endpoint, EventType, Flow, LostEvents, PolicyMatch, TrafficDirection, Verdict
from proxy.flows.printers import clean, why
from proxy.flows.reasons import reason_words
from proxy.flows.summary import socket_text, tcp_flags

_TYPES: Final = {
    "drop": EventType.DROP,
    "policy-verdict": EventType.POLICY_VERDICT,
    "l7": EventType.L7,
}
_ACTIONS: Final = {
    Verdict.FORWARDED: "allow",
    Verdict.DROPPED: "deny",
    Verdict.AUDIT: "audit",
    Verdict.REDIRECTED: "redirect",
}
_MATCHES: Final = {
    PolicyMatch.L3_ONLY: "L3-Only",
    PolicyMatch.L3_L4: "L3-L4",
    PolicyMatch.L4_ONLY: "L4-Only",
    PolicyMatch.ALL: "all",
    PolicyMatch.L3_PROTO: "L3-Proto",
    PolicyMatch.PROTO_ONLY: "Proto-Only",
}
_PROTOCOL_NUMBERS: Final = {"ICMPv4": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132}


@click.command()
@click.option("-t", "--type", "types", type=click.Choice(list(_TYPES)), multiple=True, help="Only these events.")
@click.option("--from", "from_ids", type=int, multiple=True, metavar="ID", help="Only what this endpoint sent.")
@click.option("--to", "to_ids", type=int, multiple=True, metavar="ID", help="Only what is sent to this endpoint.")
@click.option("--related-to", "related", type=int, multiple=True, metavar="ID", help="Either of the two.")
@click.option("-v", "--verbose", is_flag=True, help="Append which rule decided, and where it stands.")
@click.option("-j", "--json", "as_json", is_flag=True, help="Flow records, one JSON object a line.")
@agent_options
def monitor(
    types: tuple[str, ...],
    from_ids: tuple[int, ...],
    to_ids: tuple[int, ...],
    related: tuple[int, ...],
    verbose: bool,
    as_json: bool,
    socket_path: str,
) -> None:
    """Show what the kernel drops and lets begin, and what the proxy decides, from now on.

    Ends with Ctrl-C. `penstock observe` shows the same and what was before, with names and more filters.

    \b
    Examples:
      penstock monitor
      penstock monitor -t drop -v
      penstock monitor --related-to 4711 -j
    """
    wanted = {_TYPES[name] for name in types} or set(_TYPES.values())
    click.echo("Press Ctrl-C to quit", err=True)
    try:
        for line in client(socket_path).lines("/v1/flows", [("follow", "true"), ("last", "0")], endless=True):
            item = decode_line(line)
            if isinstance(item, LostEvents):
                click.echo(f"CPU {item.cpu or 0:02d}: Lost {item.count} events", err=True)
            elif item is not None and item.event_type in wanted and _concerns(item, from_ids, to_ids, related):
                click.echo(harmless(encode_line(item)) if as_json else clean(_text(item, verbose=verbose)))
                sys.stdout.flush()
    except KeyboardInterrupt:
        return
    except AgentError as error:
        raise failure(error) from None


def _concerns(flow: Flow, from_ids: tuple[int, ...], to_ids: tuple[int, ...], related: tuple[int, ...]) -> bool:
    source, destination = flow.source.id, flow.destination.id
    if not (from_ids or to_ids or related):
        return True
    return source in (*from_ids, *related) or destination in (*to_ids, *related)


def _text(flow: Flow, *, verbose: bool) -> str:
    shapes: dict[int, Callable[[Flow], str]] = {
        EventType.DROP: _drop,
        EventType.POLICY_VERDICT: _verdict,
        EventType.L7: _l7,
    }
    text = shapes[flow.event_type](flow)
    reasons = why(flow) if verbose else ""
    return f"{text}; {reasons}" if reasons else text


def _drop(flow: Flow) -> str:
    identities = f"identity {flow.source.identity}->{flow.destination.identity}"
    words = reason_words(flow.drop_reason)
    return (
        f"xx drop ({words}) flow {_flow_id(flow)} to endpoint {flow.destination.id}, ifindex {flow.interface_index}, "
        f"{identities}: {_ends(flow)}"
    )


def _verdict(flow: Flow) -> str:
    ingress = flow.traffic_direction is not TrafficDirection.EGRESS
    local, remote = (flow.destination, flow.source) if ingress else (flow.source, flow.destination)
    number = _PROTOCOL_NUMBERS.get(flow.l4.protocol, 0) if flow.l4 else 0
    match = _MATCHES.get(PolicyMatch(flow.policy_match_type), "none")
    return (
        f"Policy verdict log: flow {_flow_id(flow)} local EP ID {local.id}, remote ID {remote.identity}, "
        f"proto {number}, {'ingress' if ingress else 'egress'}, action {_ACTIONS.get(flow.verdict, 'deny')}, "
        f"auth: disabled, match {match}, {_ends(flow)}"
    )


def _l7(flow: Flow) -> str:
    arrow = "<-" if flow.is_reply else "->"
    kind = "Response" if flow.is_reply else "Request"
    verdict = {Verdict.FORWARDED: "Forwarded", Verdict.DROPPED: "Denied", Verdict.AUDIT: "Audit"}.get(
        flow.verdict, "Error"
    )
    protocol = flow.l7.kind if flow.l7 else ""
    record = flow.summary
    if flow.l7 and flow.l7.http:
        http = flow.l7.http
        record = f"{http.method} {http.url} => {http.code}"
    return (
        f"{arrow} {kind} {protocol} from {_side(flow.source)} to {_side(flow.destination)}, "
        f"identity {flow.source.identity}->{flow.destination.identity}, verdict {verdict} {record}"
    )


def _side(endpoint: Endpoint) -> str:
    return f"{endpoint.id} ([{' '.join(endpoint.labels)}])"


def _flow_id(flow: Flow) -> str:
    """Of one packet's two records the same: they share a time and their addresses."""
    ports = (flow.l4.source_port, flow.l4.destination_port) if flow.l4 else ()
    return f"{hash((flow.ip, ports)) & 0xFFFFFFFF:#x}"


def _ends(flow: Flow) -> str:
    if flow.ip is None:
        return "unknown -> unknown"
    l4 = flow.l4
    if l4 is None:
        return f"{flow.ip.source} -> {flow.ip.destination}"
    if l4.protocol.startswith("ICMP"):
        return f"{flow.ip.source} -> {flow.ip.destination} {l4.protocol} type {l4.icmp_type} code {l4.icmp_code}"
    source = socket_text(flow.ip.source, l4.source_port)
    destination = socket_text(flow.ip.destination, l4.destination_port)
    return f"{source} -> {destination} {l4.protocol.lower()} {tcp_flags(l4.flags)}".rstrip()
