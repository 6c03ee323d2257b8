"""Who `--from` and `--to` mean."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from config.identity import FIRST_CIDR, Reserved
from config.policy.parties import MAX_TEXT, PartyError, find_party, pod_with_labels
from config.policy.resolve import resolve
from config.policy.resolved import Snapshot
from config.settings import Settings
from tests.config.policy.builders import PODS, endpoints, policy, snapshot_of

REPLICAS = """
endpoints:
- {name: web-0, labels: {app: web}, addresses: [10.9.0.1]}
- {name: web-1, labels: {app: web}, addresses: [10.9.0.2]}
- {name: db-0, labels: {app: db, role: main}, addresses: [10.9.0.3]}
- {name: db-1, labels: {app: db, role: copy}, addresses: [10.9.0.4]}
"""
CIDRS = policy("endpointSelector: {}\ningress: [{fromCIDR: [192.0.2.0/24, 192.0.2.8/29, 2001:db8::/32]}]")
NAMES = {"api.example.com": (ip_address("192.0.2.9"), ip_address("10.9.0.3"))}


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    return snapshot_of(CIDRS)


@pytest.mark.parametrize(
    ("text", "namespace", "name"),
    [
        ("default/a", "default", "default/a"),
        ("a", "default", "default/a"),
        ("other/foo", "default", "other/foo"),
        ("foo", "other", "other/foo"),
        ("default/foo", "other", "default/foo"),
        ("10.9.0.1", "default", "default/a"),
        ("fd09::1", "default", "default/a"),
        ("fd09:0::0:1", "default", "default/a"),
        ("id=bar", "default", "default/bar"),
        ("k8s:id=bar,tier=front", "default", "default/bar"),
        ("id=foo", "other", "other/foo"),
        ("id=foo,io.kubernetes.pod.namespace=other", "default", "other/foo"),
        ("io.cilium.k8s.policy.serviceaccount=runner", "default", "default/bar"),
    ],
)
def test_pods(snapshot: Snapshot, text: str, namespace: str, name: str) -> None:
    party = find_party(text, snapshot, namespace=namespace)
    assert party.name == name
    assert party.endpoint is not None
    assert party.identity == party.endpoint.identity


@pytest.mark.parametrize(
    ("text", "identity"),
    [
        ("host", Reserved.HOST),
        ("remote-node", Reserved.REMOTE_NODE),
        ("kube-apiserver", Reserved.KUBE_APISERVER),
        ("world", Reserved.WORLD_IPV4),
        ("world-ipv4", Reserved.WORLD_IPV4),
        ("world-ipv6", Reserved.WORLD_IPV6),
        ("init", Reserved.INIT),
        ("unmanaged", Reserved.UNMANAGED),
        ("health", Reserved.HEALTH),
        ("ingress", Reserved.INGRESS),
        ("203.0.113.1", Reserved.WORLD_IPV4),
        ("2001:db9::1", Reserved.WORLD_IPV6),
        ("192.168.9.3", Reserved.KUBE_APISERVER),
    ],
)
def test_others(snapshot: Snapshot, text: str, identity: int) -> None:
    party = find_party(text, snapshot)
    assert (party.name, party.identity, party.endpoint) == (text, identity, None)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [("192.0.2.1", "192.0.2.0/24"), ("192.0.2.9", "192.0.2.8/29"), ("2001:db8::1", "2001-db8--0/32")],
)
def test_addresses_have_the_identity_of_the_longest_prefix(snapshot: Snapshot, address: str, prefix: str) -> None:
    number = find_party(address, snapshot).identity
    assert number >= FIRST_CIDR
    assert f"cidr:{prefix}=" in snapshot.identities[number]


def test_names(snapshot: Snapshot) -> None:
    party = find_party("API.example.com.", snapshot, names=NAMES)
    at = replace(find_party("192.0.2.9", snapshot), names=("api.example.com",))
    assert party == replace(at, name="API.example.com.")
    assert find_party("192.0.2.9", snapshot, names=NAMES) == at


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected NAMESPACE/POD"),
        ("x" * (MAX_TEXT + 1), "expected NAMESPACE/POD"),
        ("nobody", "there is no pod nobody in namespace default; pods there: a, bar, far, foo"),
        ("nowhere/a", "there is no pod a in namespace nowhere"),
        ("a/b/c", "there is no pod c in namespace a/b"),
        ("api.example.org", "give it with --name api.example.org=ADDRESS"),
        ("id=nobody", "no pod in namespace default has the labels id=nobody"),
        ("id=a,", "is no label of a pod"),
        ("=a", "is no label of a pod"),
        ("reserved:host=", "is no label of a pod"),
        ("10.0.0.300", "is not known"),
        ("\x1b[2J", "there is no pod"),
    ],
)
def test_who_is_nobody(snapshot: Snapshot, text: str, message: str) -> None:
    with pytest.raises(PartyError) as refused:
        find_party(text, snapshot, names=NAMES)
    assert message in str(refused.value)


def test_workloads_stand_for_their_pods() -> None:
    snapshot = snapshot_of(pods=REPLICAS)
    assert find_party("web", snapshot).name == "default/web-0"
    with pytest.raises(PartyError, match="different labels: db-0, db-1"):
        find_party("db", snapshot)


def test_pods_made_of_labels() -> None:
    file = endpoints(PODS)
    text = "id=made,k8s:io.kubernetes.pod.namespace=other"
    made = replace(pod_with_labels(text, file), interface="x")
    assert made.id not in {item.id for item in file.endpoints}
    assert "k8s:io.cilium.k8s.namespace.labels.team=far" in made.labels
    file = replace(file, endpoints=(*file.endpoints, made))
    other = pod_with_labels("id=other", file)
    assert other.id not in {item.id for item in file.endpoints}
    snapshot = resolve([], file, Settings(), 1)
    party = find_party(text, snapshot)
    assert (party.name, party.endpoint and party.endpoint.id) == ("a pod of other", made.id)


def test_labels_of_their_own_replace_what_is_given() -> None:
    made = pod_with_labels("io.cilium.k8s.policy.cluster=west", endpoints(PODS))
    assert [text for text in made.labels if "policy.cluster" in text] == ["k8s:io.cilium.k8s.policy.cluster=west"]


def test_an_address_of_a_service_is_nobodys() -> None:
    """It is translated before anything is judged; an endpoint inside the range is an endpoint all the same."""
    ranges = Settings.model_validate({"service_cidrs": "10.9.0.0/24,10.96.0.0/12,fd96::/108"})
    snapshot = snapshot_of(CIDRS, settings=ranges)
    assert find_party("10.9.0.1", snapshot).endpoint is not None
    for address in ("10.96.0.10", "fd96::a", "10.9.0.77"):
        with pytest.raises(PartyError, match="ask about the pods behind it"):
            find_party(address, snapshot)
    assert find_party("10.112.0.1", snapshot).identity == Reserved.WORLD_IPV4
