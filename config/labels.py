"""Labels: `source:key=value`, as identities carry them and selectors name them.

Sources that endpoints carry here: `k8s` (pod labels and what is derived from the namespace) and `reserved`; other nodes
carry `node`, addresses outside `cidr` and `fqdn`. In a selector `any` stands for every source, and a key without a
source means `any`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network

from config.policy.resolved import Network

ANY = "any"
K8S = "k8s"
RESERVED = "reserved"
CIDR = "cidr"
NODE = "node"
FQDN = "fqdn"

POD_NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."
CLUSTER = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""Kubernetes gives every namespace this label with its own name."""

WORLD = f"{RESERVED}:world"
WORLD_IPV4 = f"{RESERVED}:world-ipv4"
WORLD_IPV6 = f"{RESERVED}:world-ipv6"


def split_key(text: str) -> tuple[str, str]:
    """A selector's key → (source, key): `app` is `("any", "app")`, `k8s:app` is `("k8s", "app")`."""
    source, separator, key = text.partition(":")
    return (source, key) if separator and source else (ANY, text)


def label(source: str, key: str, value: str = "") -> str:
    return f"{source}:{key}={value}"


def parse_label(text: str) -> tuple[str, str, str]:
    """`source:key=value` → its three parts."""
    name, _, value = text.partition("=")
    source, key = split_key(name)
    return source, key, value


def pod_labels(
    labels: Mapping[str, str],
    namespace: str,
    namespace_labels: Mapping[str, str],
    cluster: str,
    service_account: str = "",
) -> frozenset[str]:
    """All labels that make up a pod's identity."""
    own = {label(K8S, key, value) for key, value in labels.items()}
    own.add(label(K8S, POD_NAMESPACE, namespace))
    own.add(label(K8S, CLUSTER, cluster))
    if service_account:
        own.add(label(K8S, SERVICE_ACCOUNT, service_account))
    own.update(label(K8S, NAMESPACE_LABELS + key, value) for key, value in namespace_labels.items())
    own.add(label(K8S, NAMESPACE_LABELS + NAMESPACE_NAME, namespace))
    return frozenset(own)


def node_labels(labels: Mapping[str, str]) -> frozenset[str]:
    """All labels that make up another node's identity."""
    return frozenset((label(RESERVED, "remote-node"), *(label(NODE, key, value) for key, value in labels.items())))


def cidr_key(network: Network) -> str:
    """The key of a prefix's label: `10.0.0.0/8`; `:` cannot stand in a key, so `::1/128` is `0--1/128`."""
    text = str(network)
    if network.version == 4:
        return text
    address, _, length = text.partition("/")
    if address.startswith(":"):
        address = "0" + address
    if address.endswith(":"):
        address += "0"
    return f"{address.replace(':', '-')}/{length}"


def cidr_labels(network: Network) -> frozenset[str]:
    """The labels of the identity of one prefix: itself and the world of its family."""
    world = WORLD_IPV4 if network.version == 4 else WORLD_IPV6
    return frozenset((label(CIDR, cidr_key(network)), f"{world}="))


def parse_cidr_key(key: str) -> Network | None:
    """The prefix that the key of a `cidr:` label names, or None."""
    try:
        return ip_network(key.replace("-", ":"), strict=False)
    except ValueError:
        return None


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(labels))
