"""networking.k8s.io NetworkPolicy → `rules.Document`, as Cilium reads it.

Cilium differs from Kubernetes in one point: rules of a direction that `policyTypes` does not list apply all the same.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from config import codes
from config.findings import ValuePath
from config.labels import K8S, NAMESPACE_LABELS, POD_NAMESPACE
from config.policy.model import LabelSelector, Metadata, PortProtocol, Strict
from config.policy.peers import read_block
from config.policy.ports import LAST_PORT, read_port
from config.policy.resolved import Direction
from config.policy.rules import CidrBlock, Document, Entry, Peer, PolicyRule, PortRule, PortSpec
from config.policy.scope import Scope
from config.policy.selectors import Selector, equals, exists, selector
from config.policy.subjects import read_selector
from config.policy.translate import read_audit

API_VERSIONS = ("networking.k8s.io/v1", "extensions/v1beta1")
_TYPES = ("Ingress", "Egress")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


class IpBlock(Strict):
    cidr: str
    except_: list[str] | None = None


class NetworkPolicyPeer(Strict):
    pod_selector: LabelSelector | None = None
    namespace_selector: LabelSelector | None = None
    ip_block: IpBlock | None = None


class NetworkPolicyPort(Strict):
    # A number or a name; which one is for `_port`, because a union would put its branches into error paths.
    port: Any = None
    end_port: int | None = None
    protocol: str | None = None


class IngressRule(Strict):
    ports: list[NetworkPolicyPort] | None = None
    from_: list[NetworkPolicyPeer] | None = Field(default=None, alias="from")


class EgressRule(Strict):
    ports: list[NetworkPolicyPort] | None = None
    to: list[NetworkPolicyPeer] | None = None


class NetworkPolicySpec(Strict):
    pod_selector: LabelSelector | None = None
    ingress: list[IngressRule] | None = None
    egress: list[EgressRule] | None = None
    policy_types: list[str] | None = None


class NetworkPolicy(Strict):
    """The schema: every field there is; a misspelt one must not pass."""

    api_version: str
    kind: str
    metadata: Metadata
    spec: NetworkPolicySpec
    status: Any = None


def translate_network_policy(policy: NetworkPolicy, scope: Scope) -> Document | None:
    """The document's meaning; None when `scope` has an error."""
    spec = policy.spec
    types = spec.policy_types or []
    for index, text in enumerate(types):
        if text not in _TYPES:
            scope.add(codes.SCHEMA_VALUE, ("spec", "policyTypes", index), f'"{text}" is neither Ingress nor Egress')
    subject = _pods(spec.pod_selector or LabelSelector(), scope, ("spec", "podSelector"))
    entries: list[Entry] = []
    for index, ingress in enumerate(spec.ingress or []):
        path = ("spec", "ingress", index)
        entries.append(_entry(Direction.INGRESS, ingress.from_, ingress.ports, scope, path, "from"))
    for index, egress in enumerate(spec.egress or []):
        path = ("spec", "egress", index)
        entries.append(_entry(Direction.EGRESS, egress.to, egress.ports, scope, path, "to"))
    governs = _governed(spec, scope)
    audit = read_audit(policy.metadata, scope)
    if not scope.ok:
        return None
    rule = PolicyRule(subject, tuple(entries), governs, governs, audit=audit)
    return Document(scope.kind, scope.namespace, policy.metadata.name, scope.file, scope.place.line, (rule,))


def _governed(spec: NetworkPolicySpec, scope: Scope) -> tuple[bool, bool]:
    """By direction: is it default deny?"""
    types = spec.policy_types or []
    for name, items in (("Ingress", spec.ingress), ("Egress", spec.egress)):
        if items and types and name not in types:
            path = ("spec", name.lower())
            scope.add(
                codes.UNLISTED_DIRECTION, path, f"policyTypes does not list {name}, but there are rules", key=True
            )
    ingress = bool(spec.ingress) or "Ingress" in types or "Egress" not in types
    return ingress, bool(spec.egress) or "Egress" in types


def _entry(
    direction: Direction,
    peers: list[NetworkPolicyPeer] | None,
    ports: list[NetworkPolicyPort] | None,
    scope: Scope,
    path: ValuePath,
    word: str,
) -> Entry:
    name = f"{direction.name.lower()}[{path[-1]}]"
    found = tuple(read for index, peer in enumerate(peers or []) for read in _peer(peer, scope, (*path, word, index)))
    specs = tuple(
        spec for index, port in enumerate(ports or []) for spec in _port(port, scope, (*path, "ports", index))
    )
    # No peers are any peers, no ports any ports.
    return Entry(
        direction, False, name, scope.line(path), found if peers else None, (PortRule(specs),) if ports else None
    )


def _peer(peer: NetworkPolicyPeer, scope: Scope, path: ValuePath) -> tuple[Peer, ...]:
    if peer.ip_block is not None:
        if peer.pod_selector is not None or peer.namespace_selector is not None:
            message = "ipBlock cannot be combined with podSelector or namespaceSelector"
            scope.add(codes.PEERS_COMBINED, (*path, "ipBlock"), message, key=True)
        block = read_block(peer.ip_block.cidr, peer.ip_block.except_ or [], scope, (*path, "ipBlock"))
        return (block,) if isinstance(block, CidrBlock) else ()
    if peer.namespace_selector is None:
        if peer.pod_selector is None:
            scope.add(codes.SCHEMA_MISSING, path, "a peer needs podSelector, namespaceSelector or ipBlock")
            return ()
        return (_pods(peer.pod_selector, scope, (*path, "podSelector")),)
    where = (*path, "namespaceSelector")
    terms = read_selector(peer.namespace_selector, scope, where, prefix=f"{K8S}:{NAMESPACE_LABELS}")
    if peer.pod_selector is not None:
        terms += read_selector(peer.pod_selector, scope, (*path, "podSelector"), prefix=f"{K8S}:")
    return (selector(*terms, exists(f"{K8S}:{POD_NAMESPACE}")),)


def _pods(fields: LabelSelector, scope: Scope, path: ValuePath) -> Selector:
    """Pods of the policy's own namespace."""
    terms = read_selector(fields, scope, path, prefix=f"{K8S}:")
    return selector(*terms, equals(f"{K8S}:{POD_NAMESPACE}", scope.namespace))


def _port(given: NetworkPolicyPort, scope: Scope, path: ValuePath) -> tuple[PortSpec, ...]:
    """Without a number every port, without a protocol TCP."""
    port = given.port
    if port is None and given.end_port is not None:
        scope.add(codes.PORT_BAD, (*path, "endPort"), "endPort needs a port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int | str)):
        scope.add(codes.SCHEMA_TYPE, (*path, "port"), "a port is a number or a name")
        return ()
    if isinstance(port, int) and not 1 <= port <= LAST_PORT:
        scope.add(codes.PORT_BAD, (*path, "port"), f"port {port} is not within 1..{LAST_PORT}")
        return ()
    protocol = given.protocol or "TCP"
    if protocol not in _PROTOCOLS:
        scope.add(codes.PROTOCOL_BAD, (*path, "protocol"), f'unknown protocol "{protocol[:80]}"')
        return ()
    text = "0" if port is None else str(port)
    spec = read_port(
        PortProtocol.model_validate({"port": text, "endPort": given.end_port, "protocol": protocol}), scope, path
    )
    return () if spec is None else (spec,)
