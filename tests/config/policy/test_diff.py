"""What changes between two sets of policies: by meaning, grouped, and complete."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from config.policy.decide import Allowed, Denied, decide
from config.policy.diff import Change, Difference, difference
from config.policy.explain import World
from config.policy.resolve import resolve
from config.policy.resolved import Direction, Protocol
from config.settings import Settings
from tests.config.policy import generated
from tests.config.policy.builders import endpoints, load, policy

PODS = endpoints()
ABOUT_A = "endpointSelector: {matchLabels: {id: a}}\n"


def world(*documents: str) -> World:
    file = load(*documents) if documents else None
    assert file is None or file.ok
    known = file.documents if file else ()
    return World(resolve(known, PODS, Settings(), 1), known)


def ingress(entries: str, name: str = "p") -> str:
    return policy(f"{ABOUT_A}ingress:\n{entries}", name=name)


FROM_FOO = "- fromEndpoints: [{matchLabels: {id: foo}}]\n"


def only(before: World, after: World) -> Difference:
    (found,) = difference(before, after)
    return found


def test_no_difference() -> None:
    one = world(ingress(FROM_FOO), ingress("- fromEntities: [host]", "q"))
    other = world(ingress(FROM_FOO + "- fromEntities: [host]\n", "other"))
    assert difference(one, other) == []


def test_default_deny_begins() -> None:
    found = only(world(), world(ingress(FROM_FOO)))
    assert (found.endpoints, found.direction, found.enforced) == (("default/a",), Direction.INGRESS, (False, True))
    (change,) = found.changes
    assert (change.ports, change.before, change.after) == ("everything", "allowed", "denied")
    assert not {"default/foo", "host"} & set(change.peers)
    assert {"default/bar", "remote-node", "world-ipv4 (no prefix of a rule)"} <= set(change.peers)


def test_one_port_more() -> None:
    ports = FROM_FOO + "  toPorts: [{ports: [{port: '80', endPort: %d, protocol: TCP}]}]\n"
    found = only(world(ingress(ports % 90)), world(ingress(ports % 95)))
    assert found.changes == (Change(("default/foo",), 6, 91, 95, "denied", "allowed"),)
    assert found.changes[0].ports == "91-95/TCP"


def test_l7_rules_that_come_and_go() -> None:
    http = FROM_FOO + "  toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [%s]}}]\n"
    found = only(world(ingress(http % "{path: /a}, {path: /b}")), world(ingress(http % "{path: /b}, {path: /c}")))
    (change,) = found.changes
    assert (change.before, change.after) == ("HTTP rules -: /a", "HTTP rules +: /c")


def test_a_prefix_that_only_one_side_knows() -> None:
    wide = ingress("- fromCIDR: [10.0.0.0/8]")
    found = only(world(wide), world(ingress("- fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]")))
    assert [(change.peers, change.after) for change in found.changes] == [(("10.1.0.0/16",), "denied")]


def test_json() -> None:
    found = only(world(ingress(FROM_FOO)), world()).to_json()
    assert found["enforced"] == {"before": True, "after": False}
    assert found["changes"][0].keys() == {"peers", "ports", "before", "after"}


PORTS = st.sampled_from([0, 53, 79, 80, 81, 443, 500, 501, 8080, 65535])


@settings(max_examples=60)
@given(st.lists(generated.specs(), max_size=2), st.lists(generated.specs(), max_size=2), st.data())
def test_nothing_changes_that_is_not_told(
    before: list[dict[str, object]], after: list[dict[str, object]], data: st.DataObject
) -> None:
    one, other = (generated.world_of([(spec, False) for spec in specs], Settings()) for specs in (before, after))
    found = difference(one, other)
    number = data.draw(st.sampled_from(sorted(one.snapshot.policies)))
    pod = one.snapshot.endpoints[number]
    peer = data.draw(st.sampled_from(sorted(one.snapshot.endpoints.values(), key=lambda item: item.id)))
    protocol, port = data.draw(st.sampled_from([Protocol.TCP, Protocol.UDP])), data.draw(PORTS)
    for direction in Direction:
        words = []
        for side in (one, other):
            decision = decide(side.snapshot.policies[number].direction(direction), peer.identity, protocol, port)
            words.append("denied" if isinstance(decision, Denied) else type(decision).__name__)
        told = [
            change
            for item in found
            if f"{pod.namespace}/{pod.name}" in item.endpoints and item.direction is direction
            for change in item.changes
            if any(name.startswith(f"{peer.namespace}/{peer.name}") for name in change.peers)
            and change.protocol in (Protocol.ANY, protocol)
            and change.first <= port <= change.last
        ]
        if words[0] != words[1]:
            (change,) = told
            assert (change.before == "denied") is (words[0] == "denied")
            assert (change.after == "denied") is (words[1] == "denied")
            assert (change.after == "allowed") is (words[1] == Allowed.__name__)
        elif words[0] in ("denied", Allowed.__name__):
            assert not told


def test_names() -> None:
    entry = "egress: [{toFQDNs: [{%s}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]"
    one = world(policy(ABOUT_A + entry % "matchName: a.example"))
    other = world(policy(ABOUT_A + entry % "matchPattern: '*.example'"))
    found = only(one, other)
    (change,) = found.changes
    assert (change.peers, change.ports, change.before, change.after) == (
        ("addresses of *.example",),
        "443/TCP",
        "denied",
        "allowed",
    )
    (back,) = only(other, world(policy(ABOUT_A + entry % "matchName: b.other"))).changes[:1]
    assert (back.before, back.after) == ("allowed", "denied")
