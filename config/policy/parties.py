"""`--from` and `--to` → who is meant: a pod, labels, an address, a DNS name, or a reserved name such as `world`.

What is an address is found as the datapath finds it: a pod's own, else by the longest prefix, else the world.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import MappingProxyType

from config.endpoints import FIRST_ENDPOINT, EndpointsFile, Workload
from config.identity import Reserved
from config.labels import ANY, K8S, POD_NAMESPACE, label, parse_label, pod_labels, split_key
from config.policy.cidrs import ancestors
from config.policy.explain import Party
from config.policy.resolved import Address, Endpoint, Snapshot

DEFAULT_NAMESPACE = "default"
MAX_TEXT = 1024
"""Characters of one party; more is no name of anything."""

NO_NAMES: Mapping[str, tuple[Address, ...]] = MappingProxyType({})

_RESERVED = {
    "host": Reserved.HOST,
    "remote-node": Reserved.REMOTE_NODE,
    "kube-apiserver": Reserved.KUBE_APISERVER,
    "ingress": Reserved.INGRESS,
    "health": Reserved.HEALTH,
    "init": Reserved.INIT,
    "unmanaged": Reserved.UNMANAGED,
    # No packet comes from the world of no family.
    "world": Reserved.WORLD_IPV4,
    "world-ipv4": Reserved.WORLD_IPV4,
    "world-ipv6": Reserved.WORLD_IPV6,
}


class PartyError(ValueError):
    """Nobody is meant, or more than one. Says what to write."""


def is_labels(text: str) -> bool:
    return "=" in text


def find_party(
    text: str,
    snapshot: Snapshot,
    *,
    namespace: str = DEFAULT_NAMESPACE,
    names: Mapping[str, tuple[Address, ...]] = NO_NAMES,
) -> Party:
    """Who `text` means. Labels mean a pod that has them all. `names`: DNS name → addresses, the first counts.

    Raises PartyError.
    """
    if not text or len(text) > MAX_TEXT:
        raise PartyError("expected NAMESPACE/POD, labels, an IP address, a DNS name or a reserved name such as world")
    address = _address(text)
    if address is not None:
        known = tuple(sorted(name for name, having in names.items() if address in having))
        return replace(_at(address, text, snapshot), names=known)
    if text in _RESERVED:
        return Party(text, int(_RESERVED[text]))
    if is_labels(text):
        return _with_labels(text, snapshot, namespace)
    name = text.lower().removesuffix(".")
    addresses = names.get(name)
    if addresses:
        return replace(_at(addresses[0], text, snapshot), names=(name,))
    return _pod(text, snapshot, namespace)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _at(address: Address, shown: str, snapshot: Snapshot) -> Party:
    endpoint = next((item for item in snapshot.endpoints.values() if address in item.addresses), None)
    if endpoint is not None:
        return _party(endpoint)
    if any(address.version == network.version and address in network for network in snapshot.services):
        raise PartyError(f"{shown} is a service's address, which this node translates: ask about the pods behind it")
    return Party(shown, identity_of(address, snapshot))


def identity_of(address: Address, snapshot: Snapshot) -> int:
    """By longest prefix; what no prefix covers is the world of its family."""
    found = (snapshot.ipcache.get(prefix) for prefix in ancestors(ip_network(address)))
    world = Reserved.WORLD_IPV4 if address.version == 4 else Reserved.WORLD_IPV6
    return next((number for number in found if number is not None), int(world))


def _party(endpoint: Endpoint) -> Party:
    return Party(f"{endpoint.namespace}/{endpoint.name}", endpoint.identity, endpoint)


def _pod(text: str, snapshot: Snapshot, namespace: str) -> Party:
    """A pod by its name, or one of the pods of a workload by the name of that."""
    where, _, name = text.rpartition("/")
    where = where or namespace
    inside = [item for item in snapshot.endpoints.values() if item.namespace == where]
    exact = [item for item in inside if item.name == name]
    if exact:
        return _party(exact[0])
    replicas = sorted((item for item in inside if item.name.startswith(f"{name}-")), key=lambda item: item.name)
    if not replicas:
        raise PartyError(_unknown(text, where, name, inside))
    if len({item.identity for item in replicas}) > 1:
        shown = ", ".join(item.name for item in replicas[:5])
        raise PartyError(f"{text} is no pod, and pods whose names begin like that have different labels: {shown}")
    return _party(replicas[0])


def _unknown(text: str, namespace: str, name: str, inside: list[Endpoint]) -> str:
    if "/" not in text and "." in text:
        return f"the address of {text} is not known: give it with --name {text}=ADDRESS"
    known = ", ".join(sorted(item.name for item in inside)[:5])
    there = f"; pods there: {known}" if known else ""
    return f"there is no pod {name} in namespace {namespace}{there}"


def _with_labels(text: str, snapshot: Snapshot, namespace: str) -> Party:
    """The pod that was made of these labels, else the first that has them all."""
    wanted, where = _split_labels(text, namespace)
    having = [item for item in snapshot.endpoints.values() if item.namespace == where and wanted <= item.labels]
    if not having:
        raise PartyError(f"no pod in namespace {where} has the labels {text}")
    chosen = min(having, key=lambda item: (not _is_made(item, text), item.name))
    return Party(f"a pod of {where}", chosen.identity, chosen) if _is_made(chosen, text) else _party(chosen)


def _is_made(endpoint: Endpoint, text: str) -> bool:
    return endpoint.name == text


def pod_with_labels(text: str, file: EndpointsFile, namespace: str = DEFAULT_NAMESPACE) -> Workload:
    """A pod that has these labels and no others, beside those of `file`. It has no address. Raises PartyError."""
    wanted, where = _split_labels(text, namespace)
    given = {parse_label(text)[:2] for text in wanted}
    own = pod_labels({}, where, file.namespaces.get(where, {}), file.cluster)
    own = frozenset(text for text in own if parse_label(text)[:2] not in given)
    taken = {item.id for item in file.endpoints}
    number = next(number for number in range(FIRST_ENDPOINT, len(taken) + FIRST_ENDPOINT + 1) if number not in taken)
    return Workload(number, where, text, own | wanted, (), interface=text)


def _split_labels(text: str, namespace: str) -> tuple[frozenset[str], str]:
    """The labels, as pods carry them, and the namespace that they name or else `namespace`."""
    found: set[str] = set()
    for part in text.split(","):
        name, separator, value = part.strip().partition("=")
        source, key = split_key(name)
        if not separator or not key or source not in (ANY, K8S):
            raise PartyError(f"{part.strip()!r} is no label of a pod; expected for example app=web,k8s:tier=front")
        if key == POD_NAMESPACE:
            namespace = value
        found.add(label(K8S, key, value))
    return frozenset(found), namespace or DEFAULT_NAMESPACE
