"""Policies and questions for tests of what must hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from config.policy.explain import Question, World
from config.policy.load import parse_file
from config.policy.parties import find_party
from config.policy.resolve import resolve
from config.policy.resolved import Protocol
from config.settings import Settings
from parsers.facts import HttpRequest
from tests.config.policy.builders import dump, endpoints, http_request

PODS = endpoints()

# Few values, so that policies and questions meet.
LABELS = st.dictionaries(st.sampled_from(["id", "role", "tier"]), st.sampled_from(["a", "foo", "bar"]), max_size=1)
SELECTORS = st.builds(lambda labels: {"matchLabels": labels} if labels else {}, LABELS)
CIDRS = st.sampled_from(["0.0.0.0/0", "192.0.2.0/24", "192.0.2.8/29", "10.0.0.0/8", "2001:db8::/32", "::/0"])
CIDR_SETS = st.sampled_from(
    [
        {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]},
        {"cidr": "0.0.0.0/0", "except": ["192.0.2.0/24"]},
        {"cidr": "2001:db8::/32"},
    ]
)
ENTITIES = st.sampled_from(["world", "cluster", "host", "all", "none", "remote-node", "world-ipv6"])
PORTS = st.builds(
    lambda port, last, protocol: {"port": port, "protocol": protocol} | ({"endPort": last} if port.isdigit() else {}),
    st.sampled_from(["80", "http", "443", "0"]),
    st.sampled_from([0, 500, 8080]),
    st.sampled_from(["TCP", "UDP", "ANY"]),
).map(lambda port: port | ({"endPort": 0} if port["port"] == "0" else {}))
HTTP_PORTS = st.sampled_from(["80", "http", "8080"]).map(lambda port: {"port": port, "protocol": "TCP"})
HTTP_RULES = st.fixed_dictionaries(
    {}, optional={"method": st.sampled_from(["GET", "PUT"]), "path": st.sampled_from(["/x", "/x.*", "/y"])}
)
INSIDE = ["10.9.0.1", "fd09::1", "10.9.0.2", "10.9.0.3", "10.9.0.4", "10.9.0.9", "192.168.9.2", "192.168.9.3"]
OUTSIDE = ["192.0.2.1", "192.0.2.9", "203.0.113.1", "10.1.1.1", "2001:db8::1", "2001:db9::1"]
ADDRESSES = st.sampled_from([*INSIDE, *OUTSIDE])
RESERVED = st.sampled_from(["host", "remote-node", "kube-apiserver", "world", "world-ipv6", "init"])


@st.composite
def entries(draw: st.DrawFn, section: str) -> dict[str, object]:
    word = "from" if section.startswith("ingress") else "to"
    entry: dict[str, object] = {}
    kinds = {"Endpoints": SELECTORS, "CIDR": CIDRS, "CIDRSet": CIDR_SETS, "Entities": ENTITIES}
    kind = draw(st.sampled_from(["", *kinds]))
    if kind:
        entry[word + kind] = draw(st.lists(kinds[kind], max_size=2))
    match draw(st.sampled_from(["", "ports", "http", "icmps"])):
        case "ports":
            entry["toPorts"] = [{"ports": draw(st.lists(PORTS, min_size=1, max_size=2))}]
        case "http" if not section.endswith("Deny"):
            rules = draw(st.lists(HTTP_RULES, min_size=1, max_size=2))
            entry["toPorts"] = [{"ports": [draw(HTTP_PORTS)], "rules": {"http": rules}}]
        case "icmps":
            entry["icmps"] = [{"fields": [{"type": draw(st.sampled_from([0, 8]))}]}]
    return entry


@st.composite
def specs(draw: st.DrawFn) -> dict[str, object]:
    spec: dict[str, object] = {"endpointSelector": draw(SELECTORS)}
    for section in draw(st.sets(st.sampled_from(["ingress", "egress", "ingressDeny", "egressDeny"]), min_size=1)):
        spec[section] = draw(st.lists(entries(section), min_size=1, max_size=3))
    if draw(st.integers(0, 4)) == 0:
        spec["enableDefaultDeny"] = draw(st.fixed_dictionaries({}, optional={"ingress": st.booleans()}))
    return spec


def document(number: int, spec: dict[str, object]) -> str:
    name = {"name": f"p{number}", "namespace": "default"}
    return dump({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": name, "spec": spec})


def world_of(given: Sequence[tuple[dict[str, object], bool]], settings: Settings) -> World:
    """Of specs, each of which may be of a policy that is only tried out."""
    text = "---\n".join(document(number, spec) for number, (spec, _) in enumerate(given))
    file = parse_file(text.encode(), "p.yaml")
    assert file.ok, file.findings
    tried = {f"p{number}" for number, (_, audit) in enumerate(given) if audit}
    documents = tuple(
        replace(item, rules=tuple(replace(rule, audit=item.name in tried) for rule in item.rules))
        for item in file.documents
    )
    return World(resolve(documents, PODS, settings, 1), documents)


SETTINGS = st.builds(
    lambda mode, audit: Settings.model_validate({"enable_policy": mode, "policy_audit_mode": audit}),
    st.sampled_from(["default", "default", "default", "always", "never"]),
    st.sampled_from([False, False, False, True]),
)
TRIED_OUT = st.sampled_from([False, False, False, True])


def worlds() -> st.SearchStrategy[World]:
    return st.builds(world_of, st.lists(st.tuples(specs(), TRIED_OUT), min_size=1, max_size=4), SETTINGS)


REQUESTS: st.SearchStrategy[HttpRequest | None] = st.none() | st.builds(
    lambda method, path: http_request(f"{method} {path}"),
    st.sampled_from(["GET", "PUT"]),
    st.sampled_from(["/x", "/x/1", "/y", "/z"]),
)


@st.composite
def questions(
    draw: st.DrawFn,
    world: World,
    parties: st.SearchStrategy[str] = ADDRESSES | RESERVED,
) -> Question:
    source, destination = draw(parties), draw(parties)
    protocol = draw(st.sampled_from([Protocol.TCP, Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP]))
    port = draw(st.sampled_from([0, 8] if protocol == Protocol.ICMP else [0, 53, 80, 81, 443, 501, 8080, 65535]))
    request = draw(REQUESTS) if protocol == Protocol.TCP else None
    one, other = (find_party(text, world.snapshot) for text in (source, destination))
    return Question(one, other, protocol, port, request)
