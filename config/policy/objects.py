"""Objects that policies refer to: CiliumCIDRGroup, Service, Endpoints, EndpointSlice.

A CIDR group is read strictly, because rules are made of it. The others belong to Kubernetes and are written for other
readers: only what matters here is looked at, and what cannot be understood there selects nobody.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from pydantic import Field

from config.labels import K8S, POD_NAMESPACE, label
from config.policy.model import Metadata, Strict
from config.policy.peers import read_network
from config.policy.resolved import Network
from config.policy.rules import CidrGroup, Service, ServiceBackends
from config.policy.scope import Scope
from config.policy.selectors import equals, selector
from config.yaml_values import Value

CIDR_GROUP = "cidrgroup"
"""Source of the labels of CIDR groups."""

_GROUP_NAME = "io.cilium.policy.cidrgroupname"
_SERVICE_NAME = "kubernetes.io/service-name"


class CidrGroupSpec(Strict):
    external_cidrs: list[str] = Field(alias="externalCIDRs")


class CidrGroupObject(Strict):
    api_version: str
    kind: str
    metadata: Metadata
    spec: CidrGroupSpec
    status: Any = None


def read_group(given: CidrGroupObject, scope: Scope) -> CidrGroup | None:
    """None when `scope` has an error."""
    networks: list[Network] = []
    for index, text in enumerate(given.spec.external_cidrs):
        network = read_network(text, scope, ("spec", "externalCIDRs", index), bare=True)
        networks.extend([network] if network else [])
    if not scope.ok:
        return None
    name = given.metadata.name
    own = {label(CIDR_GROUP, key, value) for key, value in (given.metadata.labels or {}).items()}
    labels = frozenset((*own, label(CIDR_GROUP, f"{_GROUP_NAME}/{name}")))
    return CidrGroup(name, labels, tuple(dict.fromkeys(networks)), scope.file, scope.place.line)


def broken_group(value: Value, file: str, line: int) -> CidrGroup | None:
    """What stands in for a group that cannot be read, if at least its name can be."""
    name = _mapping(_mapping(value).get("metadata")).get("name")
    return CidrGroup(name, frozenset(), (), file, line, is_broken=True) if isinstance(name, str) else None


def read_service(value: dict[str, Value], namespace: str, name: str, file: str, line: int) -> Service:
    """A service of type ExternalName, or whose selector makes no sense, has nothing behind it that is known."""
    spec = _mapping(value.get("spec"))
    chosen = {key: text for key, text in _mapping(spec.get("selector")).items() if isinstance(text, str)}
    labels = _mapping(_mapping(value.get("metadata")).get("labels"))
    found = None
    if chosen and spec.get("type") != "ExternalName":
        terms = [equals(f"{K8S}:{key}", text) for key, text in chosen.items()]
        found = selector(*terms, equals(f"{K8S}:{POD_NAMESPACE}", namespace))
    known = frozenset(label(K8S, key, text) for key, text in labels.items() if isinstance(text, str))
    return Service(namespace, name, known, found, file, line)


def read_endpoints_object(value: dict[str, Value], namespace: str, name: str, file: str, line: int) -> ServiceBackends:
    """`v1 Endpoints`: it has the name of its service."""
    subsets = _items(value.get("subsets"))
    texts = [address.get("ip") for subset in subsets for address in _items(subset.get("addresses"))]
    return ServiceBackends(namespace, name, _networks(texts), file, line)


def read_slice(value: dict[str, Value], namespace: str, file: str, line: int) -> ServiceBackends | None:
    """An EndpointSlice names its service in a label; one that does not is of no use."""
    labels = _mapping(_mapping(value.get("metadata")).get("labels"))
    service = labels.get(_SERVICE_NAME)
    if not isinstance(service, str):
        return None
    ready = [
        item for item in _items(value.get("endpoints")) if _mapping(item.get("conditions")).get("ready") is not False
    ]
    texts: list[Value] = []
    for item in ready:
        addresses = item.get("addresses")
        texts.extend(addresses if isinstance(addresses, list) else [])
    return ServiceBackends(namespace, service, _networks(texts), file, line)


def _networks(texts: list[Value]) -> tuple[Network, ...]:
    found: dict[Network, None] = {}
    for text in texts:
        try:
            found[ip_network(ip_address(text if isinstance(text, str) else ""))] = None
        except ValueError:
            continue
    return tuple(found)


def _mapping(value: Value) -> dict[str, Value]:
    return value if isinstance(value, dict) else {}


def _items(value: Value) -> list[dict[str, Value]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
