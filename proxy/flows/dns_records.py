"""DNS queries and their answers as flow records.

As with HTTP a refused query is two flows: the DROPPED request, and the answer that was FORWARDED to the client, with
a code that says so (REFUSED or NXDOMAIN). Names end in a dot here, as Hubble has them.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from proxy.flows import summary
from proxy.flows.links import ExchangeRecord, exchange_flow
from proxy.flows.model import L7, Dns, Flow, L7Type
from proxy.flows.wire import DnsExchange


class DnsRecord(ExchangeRecord[DnsExchange], frozen=True, gc=False):
    """A request or its response."""

    def observation(self, uuid: str) -> Flow:
        return _dns_flow(self, uuid)


def _dns_flow(record: DnsRecord, uuid: str) -> Flow:
    exchange = record.exchange
    query, kinds = f"{exchange.name}.", (exchange.query_type,)
    if not record.response:
        asked = Dns(query, observation_source=summary.DNS_PROXY, qtypes=kinds)
        return exchange_flow(record, uuid, L7(L7Type.REQUEST, 0, "dns", dns=asked), summary.dns_request(asked))
    answer = Dns(
        query,
        tuple(_address(packed) for packed in exchange.addresses),
        exchange.ttl,
        tuple(f"{name}." for name in exchange.cnames),
        summary.DNS_PROXY,
        max(0, exchange.rcode),
        kinds,
        tuple(exchange.types),
    )
    l7 = L7(L7Type.RESPONSE, exchange.latency_ns, "dns", dns=answer)
    return exchange_flow(record, uuid, l7, summary.dns_response(answer))


def _address(packed: bytes) -> str:
    """What a worker can not have meant is shown as it came."""
    if len(packed) == 4:
        return str(IPv4Address(packed))
    return str(IPv6Address(packed)) if len(packed) == 16 else packed.hex()
