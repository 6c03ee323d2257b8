"""What must hold for any policy: one meaning in every form, and no dependence on order."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from config.policy.decide import Denied, Inspect, covers, decide
from config.policy.entries import EntryKey, EntryValue, EntryVerdict, policy_entries
from config.policy.load import parse_file
from config.policy.resolve import resolve
from config.policy.resolved import (
    Direction,
    DirectionPolicy,
    EndpointPolicy,
    HttpRule,
    Origin,
    PortRange,
    Protocol,
    Rule,
)
from config.settings import Settings
from tests.config.policy.builders import dump, endpoints

IDENTITIES = [1, 9, 300, 301]
PORTS = [0, 1, 79, 80, 81, 443, 1023, 1024, 8080, 65534, 65535]
PROTOCOLS = [Protocol.ICMP, Protocol.TCP, Protocol.UDP]

PODS = endpoints()

# Rules as the datapath gets them


@st.composite
def _port_ranges(draw: st.DrawFn) -> tuple[PortRange, ...] | None:
    if draw(st.booleans()):
        return None
    found = []
    for _ in range(draw(st.integers(1, 2))):
        protocol = draw(st.sampled_from(PROTOCOLS))
        first = draw(st.sampled_from(PORTS) | st.integers(0, 65535))
        last = draw(st.sampled_from([first, 65535]) | st.integers(first, 65535))
        found.append(PortRange(protocol, first, last))
    return tuple(found)


@st.composite
def _rules(draw: st.DrawFn) -> Rule:
    number = draw(st.integers(1, 9))
    origin = Origin(number, "CiliumNetworkPolicy", "default", "p", f"ingress[{number}]")
    identities = draw(st.none() | st.frozensets(st.sampled_from(IDENTITIES), max_size=3))
    ports = draw(_port_ranges())
    deny = draw(st.booleans())
    can_http = not deny and ports is not None and all(item.protocol == Protocol.TCP for item in ports)
    http = (HttpRule(path="/x"),) if can_http and draw(st.booleans()) else None
    return Rule(origin, identities, ports, deny, http, audit=draw(st.booleans()))


def covering(rows: dict[EntryKey, EntryValue], identity: int, protocol: int, port: int) -> EntryValue | None:
    """The longest-prefix match of the kernel, for one identity."""
    best: tuple[int, EntryValue] | None = None
    for key, value in rows.items():
        shift = 16 - key.prefix_bits
        if (
            key.direction is not Direction.INGRESS
            or key.identity != identity
            or key.protocol not in (0, protocol)
            or key.port >> shift != port >> shift
        ):
            continue
        length = (8 if key.protocol else 0) + key.prefix_bits
        if best is None or length > best[0]:
            best = length, value
    return best[1] if best else None


def kernel_verdict(policy: EndpointPolicy, identity: int, protocol: int, port: int) -> tuple[str, int | None]:
    """Two lookups, the stronger wins. Beside it the rule of the refusal that is only reported, 0 for default deny."""
    if not policy.ingress.enforced:
        return "allow", None
    rows = policy_entries(policy)
    found = [row for who in (identity, 0) if (row := covering(rows, who, protocol, port)) is not None]
    tried = next((row.audited for row in found if row.audited), None)
    match max((row.verdict for row in found), default=EntryVerdict.NONE):
        case EntryVerdict.DENY:
            return "deny", None
        case EntryVerdict.REDIRECT:
            return "redirect", tried
        case EntryVerdict.ALLOW:
            return "allow", tried
        case EntryVerdict.NONE:
            return ("allow", tried or 0) if policy.ingress.audit else ("deny", None)


@settings(max_examples=300)
@given(
    st.lists(_rules(), max_size=6),
    st.booleans(),
    st.booleans(),
    st.sampled_from(IDENTITIES),
    st.sampled_from(PROTOCOLS),
    st.sampled_from(PORTS) | st.integers(0, 65535),
)
def test_the_kernels_rows_and_decide_agree(
    rules: list[Rule], enforced: bool, audit: bool, identity: int, protocol: int, port: int
) -> None:
    policy = EndpointPolicy(DirectionPolicy(enforced, tuple(rules), audit=audit), DirectionPolicy(False))
    decision = decide(policy.ingress, identity, protocol, port)
    verdict, reported = kernel_verdict(policy, identity, protocol, port)
    if isinstance(decision, Denied):
        assert verdict == "deny"
        return
    assert (reported is None) is (decision.audited is None)
    if decision.audited is not None:
        tried = {
            rule.origin.id for rule in rules if rule.deny and rule.audit and covers(rule, identity, protocol, port)
        }
        assert reported in (tried or {0})
        assert decision.audited.origin_id == min(tried, default=0)
    if isinstance(decision, Inspect):
        assert verdict == "redirect"
    else:
        # Allowed at once, or by the proxy, when a plain rule stands beside HTTP rules.
        redirects = any(rule.l7 and covers(rule, identity, protocol, port) for rule in rules)
        assert verdict == ("redirect" if enforced and redirects else "allow")


# Policies as people write them


_LABELS = st.dictionaries(
    st.sampled_from(["id", "role", "tier"]), st.sampled_from(["a", "foo", "bar", "front"]), max_size=1
)
_SELECTORS = st.builds(lambda labels: {"matchLabels": labels} if labels else {}, _LABELS)
_CIDRS = st.sampled_from(["0.0.0.0/0", "10.0.0.0/8", "10.9.0.0/16", "192.0.2.0/24", "192.0.2.3/32", "2001:db8::/32"])
_PORTS = st.builds(
    lambda port, last, protocol: {"port": port, "protocol": protocol} | ({"endPort": last} if port.isdigit() else {}),
    st.sampled_from(["80", "http", "443"]),
    st.sampled_from([0, 500, 8080]),
    st.sampled_from(["TCP", "UDP", "ANY"]),
)
_ENTITIES = st.lists(st.sampled_from(["world", "cluster", "host", "all", "none"]), max_size=2)


@st.composite
def _entries(draw: st.DrawFn, direction: str) -> dict[str, object]:
    word = "from" if direction == "ingress" else "to"
    entry: dict[str, object] = {}
    kind = draw(st.sampled_from(["", "Endpoints", "CIDR", "Entities"]))
    if kind:
        peers = {"Endpoints": _SELECTORS, "CIDR": _CIDRS}
        entry[word + kind] = draw(_ENTITIES if kind == "Entities" else st.lists(peers[kind], max_size=2))
    if draw(st.booleans()):
        entry["toPorts"] = [{"ports": draw(st.lists(_PORTS, min_size=1, max_size=2))}]
    return entry


@st.composite
def _policies(draw: st.DrawFn) -> dict[str, object]:
    spec: dict[str, object] = {"endpointSelector": draw(_SELECTORS)}
    for section in draw(st.sets(st.sampled_from(["ingress", "egress", "ingressDeny", "egressDeny"]), min_size=1)):
        spec[section] = draw(st.lists(_entries(section.removesuffix("Deny")), min_size=1, max_size=2))
    if draw(st.booleans()):
        spec["enableDefaultDeny"] = {"ingress": draw(st.booleans())}
    return spec


def _document(number: int, spec: dict[str, object]) -> str:
    name = {"name": f"p{number}", "namespace": "default"}
    return dump({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": name, "spec": spec})


@settings(max_examples=60)
@given(st.lists(_policies(), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_resolution_does_not_depend_on_order(specs: list[dict[str, object]], shuffling: random.Random) -> None:
    files = [parse_file(_document(number, spec).encode(), f"{number}.yaml") for number, spec in enumerate(specs)]
    assert all(file.ok for file in files)
    shuffled = files[:]
    shuffling.shuffle(shuffled)
    first = resolve([document for file in files for document in file.documents], PODS, Settings(), 1)
    second = resolve([document for file in shuffled for document in file.documents], PODS, Settings(), 1)
    assert first == second


@settings(max_examples=60)
@given(st.lists(_policies(), min_size=1, max_size=3), st.data())
def test_what_is_written_is_what_the_kernel_gets(specs: list[dict[str, object]], data: st.DataObject) -> None:
    file = parse_file("---\n".join(_document(number, spec) for number, spec in enumerate(specs)).encode(), "p.yaml")
    snapshot = resolve(file.documents, PODS, Settings(), 1)
    for policy in set(snapshot.policies.values()):
        identity = data.draw(st.sampled_from(sorted(snapshot.identities)))
        port = data.draw(st.sampled_from(PORTS))
        denied = isinstance(decide(policy.direction(Direction.INGRESS), identity, Protocol.TCP, port), Denied)
        assert (kernel_verdict(policy, identity, Protocol.TCP, port)[0] == "deny") == denied
