"""Addresses, names and DNS of a lab: pure functions of its name and its manifests."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
import yaml

from config.endpoints import parse_endpoints
from proxy.lab.agent import endpoints_document
from proxy.lab.dns import etc_files, host_lines
from proxy.lab.errors import LabError
from proxy.lab.model import Manifests, OutsideHost, PodPort, PodSpec, ServicePort, ServiceSpec
from proxy.lab.names import INTERFACE_MAX, check_lab_name, interface_name, netns_name
from proxy.lab.plan import make_plan, ranges_of

MANIFESTS = Manifests(
    namespaces={"web": {"team": "a"}},
    pods=(
        PodSpec("web", "front-0", {"app": "front"}, (PodPort(80, "http"), PodPort(81)), service_account="robot"),
        PodSpec("web", "front-1", {"app": "front"}),
        PodSpec("api", "back-0", {"app": "back"}),
    ),
    services=(
        ServiceSpec("web", "front", {"app": "front"}, (ServicePort(80, 80),)),
        ServiceSpec("api", "back", {"app": "back"}, headless=True),
        ServiceSpec("api", "nobody", {}),
    ),
    hosts=(OutsideHost("extra.test", ("192.0.2.99",)),),
)


def test_ranges_follow_from_the_name() -> None:
    assert ranges_of("demo") == ranges_of("demo")
    assert ranges_of("demo").v4.prefixlen == 16
    assert str(ranges_of("demo").v6).startswith("fd")


def test_labs_side_by_side_share_no_address() -> None:
    taken: list[int] = []
    ranges = []
    for index in range(256):
        ranges.append(ranges_of(f"lab-{index}", taken))
        taken.append(ranges[-1].octet)
    assert len({item.v4 for item in ranges}) == 256
    assert not any(a.v4.overlaps(b.v4) or a.v6.overlaps(b.v6) for a, b in combinations(ranges, 2))
    with pytest.raises(LabError, match="no address range is left"):
        ranges_of("one-more", taken)


def test_every_address_and_interface_is_used_once() -> None:
    pods = tuple(PodSpec("default", f"a-rather-long-pod-name-{index}") for index in range(3000))
    plan = make_plan("big", Manifests(pods=pods))
    fixed = [*plan.node.address, *plan.node.uplink, *plan.node.world_end]
    addresses = [address for pod in plan.pods for address in (pod.v4, pod.v6)] + fixed
    assert len(set(addresses)) == len(addresses)
    assert all(address in plan.ranges.v4 or address in plan.ranges.v6 for address in addresses)
    assert len({pod.interface for pod in plan.pods}) == len(plan.pods)


def test_pods_are_placed_in_order_and_dns_is_first() -> None:
    plan = make_plan("demo", MANIFESTS)
    assert [pod.ref for pod in plan.pods] == ["kube-system/kube-dns", "web/front-0", "web/front-1", "api/back-0"]
    assert plan.dns.spec.labels == {"k8s-app": "kube-dns"}
    assert str(plan.pods[1].v4).endswith(".1.1")
    assert str(plan.pods[1].v6).endswith("::1:1")
    assert plan.pods[1].netns == "penstock-demo.web.front-0"


def test_the_dns_pod_is_the_labs_own() -> None:
    with pytest.raises(LabError, match="kube-system/kube-dns"):
        make_plan("demo", Manifests(pods=(PodSpec("kube-system", "kube-dns"),)))


@pytest.mark.parametrize("address", ["8.8.8.8", "2600::1", "nonsense"])
def test_outside_hosts_live_in_documentation_ranges(address: str) -> None:
    with pytest.raises(LabError, match="World host x"):
        make_plan("demo", Manifests(hosts=(OutsideHost("x", (address,)),)))


def test_names_the_dns_serves() -> None:
    plan = make_plan("demo", MANIFESTS)
    names: dict[str, list[str]] = {}
    for line in host_lines(plan):
        address, name = line.split()
        names.setdefault(name, []).append(address)
    _, front0, front1, back = plan.pods
    assert names["front.web.svc.cluster.local"] == [str(a) for a in (front0.v4, front0.v6, front1.v4, front1.v6)]
    assert names["back-0.back.api.svc.cluster.local"] == [str(back.v4), str(back.v6)]
    assert names["front-1.web.pod.cluster.local"] == [str(front1.v4), str(front1.v6)]
    assert names["extra.test"] == ["192.0.2.99"]
    assert "api.stripe.com" in names
    assert not any("nobody" in name for name in names)


def test_pods_search_their_own_namespace_first() -> None:
    plan = make_plan("demo", MANIFESTS)
    lines = etc_files(plan, plan.pods[1])["resolv.conf"].splitlines()
    assert lines[0] == f"nameserver {plan.dns.v4}"
    assert lines[1] == "search web.svc.cluster.local svc.cluster.local cluster.local"
    assert "ndots:5" in lines[2]


TWO_NODES = replace(MANIFESTS, pods=(*MANIFESTS.pods, PodSpec("api", "back-1", {"app": "back"}, node="node-b")))


def test_nodes_come_from_the_pods() -> None:
    plan = make_plan("demo", TWO_NODES, translates=True)
    assert [node.ref for node in plan.nodes] == ["node", "node-b"]
    addresses = [
        address for node in plan.nodes for pair in (node.address, node.uplink, node.world_end) for address in pair
    ]
    services = [address for service in plan.services for address in (service.v4, service.v6)]
    pods = [address for pod in plan.pods for address in (pod.v4, pod.v6)]
    assert len({*addresses, *services, *pods}) == len(addresses) + len(services) + len(pods)
    v4, v6 = plan.service_ranges
    assert all(address in v4 or address in v6 for address in services)
    assert not any(address in v4 or address in v6 for address in (*addresses, *pods))


def test_a_node_knows_all_pods_and_the_interfaces_of_its_own() -> None:
    plan = make_plan("demo", TWO_NODES)
    documents = [endpoints_document(plan, node) for node in plan.nodes]
    for document in documents:
        assert parse_endpoints(yaml.safe_dump(document).encode(), "endpoints.yaml").findings == ()
    first, second = ([pod["name"] for pod in one["endpoints"] if "interface" in pod] for one in documents)
    assert (first[-1], second) == ("back-0", ["back-1"])
    assert len(documents[0]["endpoints"]) == len(documents[1]["endpoints"]) == 5


def test_a_service_has_its_own_address_if_the_lab_translates() -> None:
    plan = make_plan("demo", TWO_NODES, translates=True)
    lines = [line.split() for line in host_lines(plan)]
    front = plan.services[0]
    assert [address for address, name in lines if name == "front.web.svc.cluster.local"] == [
        str(front.v4),
        str(front.v6),
    ]
    # A headless one has none.
    assert sum(name == "back.api.svc.cluster.local" for _, name in lines) == 4


def test_the_endpoints_file() -> None:
    plan = make_plan("demo", MANIFESTS)
    document = endpoints_document(plan, plan.node)
    assert parse_endpoints(yaml.safe_dump(document).encode(), "endpoints.yaml").findings == ()
    assert document["namespaces"] == [{"name": "web", "labels": {"team": "a"}}]
    front = document["endpoints"][1]
    assert front["labels"] == {"app": "front"}
    assert front["interface"] == "p1-front-0"
    assert len(front["addresses"]) == 2
    assert front["ports"] == [{"name": "http", "containerPort": 80, "protocol": "TCP"}]
    assert front["serviceAccount"] == "robot"


@pytest.mark.parametrize("name", ["", "A", "a.b", "-a", "a-", "a/b", "x" * 25, "a b"])
def test_bad_lab_names(name: str) -> None:
    with pytest.raises(LabError):
        check_lab_name(name)


def test_names() -> None:
    assert check_lab_name("shop-2") == "shop-2"
    assert netns_name("shop-2", "web/a.b") == "penstock-shop-2.web.a.b"
    assert interface_name(7, "a.very.long.pod.name") == "p7-a-very-long-"
    assert len(interface_name(65000, "x" * 100)) == INTERFACE_MAX
