"""Desired states for the tests of programs and model: two pods, a node, the world."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from bpf.tables import DesiredState, EndpointFlag, LocalEndpoint, Policy, Row, RowKey, RowVerdict
from tests.bpf.kernel import POD_A, POD_B

A4, B4, NODE4, REMOTE4, WORLD4 = "10.77.1.2", "10.77.2.2", "10.77.1.1", "10.78.0.9", "192.0.2.7"
A6, B6, NODE6, REMOTE6, WORLD6 = "fd77:1::2", "fd77:2::2", "fd77:1::1", "fd78::9", "2001:db8::7"
ID_A, ID_B, ID_REMOTE = 1001, 1002, 1003

INGRESS, EGRESS = 0, 1
ALLOW, REDIRECT, DENY = RowVerdict.ALLOW, RowVerdict.REDIRECT, RowVerdict.DENY
NONE = RowVerdict.NONE
ENFORCE_INGRESS, ENFORCE_EGRESS, AUDIT = EndpointFlag.ENFORCE_INGRESS, EndpointFlag.ENFORCE_EGRESS, EndpointFlag.AUDIT
TRY_INGRESS, TRY_EGRESS = EndpointFlag.TRY_INGRESS, EndpointFlag.TRY_EGRESS

IPCACHE = {
    ip_network(f"{A4}/32"): ID_A,
    ip_network(f"{B4}/32"): ID_B,
    ip_network(f"{A6}/128"): ID_A,
    ip_network(f"{B6}/128"): ID_B,
    ip_network(f"{NODE4}/32"): 1,
    ip_network(f"{NODE6}/128"): 1,
    ip_network("10.78.0.0/16"): ID_REMOTE,
    ip_network("fd78::/16"): ID_REMOTE,
}


def row(identity: int, direction: int, protocol: int = 0, port: int = 0, bits: int | None = None) -> RowKey:
    """Any protocol, any port of one, or (with a port) that port or its first `bits` bits."""
    if bits is None:
        bits = 16 if port else 0
    return RowKey(identity, direction, protocol, port, bits)


def rows(verdict: RowVerdict, *keys: RowKey, rule: int = 1, audited: int = 0) -> Policy:
    return dict.fromkeys(keys, Row(verdict, rule, audited))


def state(
    a: Policy | None = None,
    b: Policy | None = None,
    a_flags: EndpointFlag = EndpointFlag(0),  # noqa: B008 - immutable
    b_flags: EndpointFlag = EndpointFlag(0),  # noqa: B008
) -> DesiredState:
    pod_a = LocalEndpoint(1, ID_A, a_flags, POD_A, a or {})
    pod_b = LocalEndpoint(2, ID_B, b_flags, POD_B, b or {})
    endpoints = {ip_address(A4): pod_a, ip_address(A6): pod_a, ip_address(B4): pod_b, ip_address(B6): pod_b}
    return DesiredState(endpoints, IPCACHE)
