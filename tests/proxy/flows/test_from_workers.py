"""What workers report, as flows."""

from __future__ import annotations

import gc
import weakref

import pytest

from config.policy.resolved import Snapshot
from proxy.flows import wire
from proxy.flows.from_workers import MAX_CONNECTIONS
from proxy.flows.model import FlowType, Ip, LostEvents, LostSource, Policy, TrafficDirection, Verdict
from tests.proxy.flows.samples import API, MS, NOON, Node, batch, connection, exchange, refused, snapshot


@pytest.fixture
def node() -> Node:
    return Node()


def test_an_allowed_request_is_two_flows(node: Node) -> None:
    node.workers.add(batch(exchange()))
    request, response = node.flows()
    assert (request.verdict, response.verdict) == (Verdict.FORWARDED, Verdict.FORWARDED)
    assert request.ingress_allowed_by == (Policy("api", "default", "CiliumNetworkPolicy", 3),)
    assert request.policy_log == ()
    assert (request.time_ns, response.time_ns) == (NOON, NOON + MS)
    assert (request.source, request.destination) == (response.destination, response.source)
    assert request.traffic_direction is response.traffic_direction is TrafficDirection.INGRESS


def test_a_refused_request_is_a_drop_and_a_403(node: Node) -> None:
    node.workers.add(batch(refused()))
    request, response = node.flows()
    assert (request.verdict, request.drop_reason_desc) == (Verdict.DROPPED, "POLICY_DENIED")
    assert request.ingress_denied_by == (Policy("api", "default", "CiliumNetworkPolicy", 3),)
    assert request.deciding is not None
    assert request.deciding.default_deny
    assert response.verdict is Verdict.FORWARDED
    assert response.l7 is not None
    assert response.l7.http is not None
    assert response.l7.http.code == 403
    assert (response.drop_reason, response.ingress_denied_by, response.deciding) == (0, (), None)


def test_audit_is_not_a_drop(node: Node) -> None:
    node.workers.add(batch(exchange(verdict=Verdict.AUDIT, rule=0, reason="path is not allowed")))
    request, response = node.flows()
    assert (request.verdict, response.verdict) == (Verdict.AUDIT, Verdict.FORWARDED)
    assert (request.drop_reason, request.policy_log) == (0, ("default deny of default/api: path is not allowed",))
    assert request.ingress_denied_by


def test_bytes_that_do_not_parse_blame_no_policy(node: Node) -> None:
    node.workers.add(batch(exchange(verdict=Verdict.ERROR, rule=0, status=400, reason="two Content-Length fields")))
    request, response = node.flows()
    assert request.verdict is Verdict.ERROR
    assert request.ingress_denied_by == ()
    assert request.policy_log == ("two Content-Length fields",)
    assert response.summary == "HTTP/1.1 400 1ms (GET http://api:8080/v1/items)"


def test_failures(node: Node) -> None:
    failures = [
        wire.Failure(1, NOON, Verdict.ERROR, 0, "no upstream", "connection refused"),
        wire.Failure(1, NOON, Verdict.DROPPED, 1, "permission gone", ""),
    ]
    node.workers.add(batch(failures=failures))
    error, dropped = node.flows()
    assert (error.summary, error.verdict, error.drop_reason) == ("no upstream: connection refused", Verdict.ERROR, 0)
    assert (dropped.summary, dropped.drop_reason_desc) == ("permission gone", "POLICY_DENIED")
    assert dropped.type is FlowType.L7
    assert dropped.traffic_direction is TrafficDirection.EGRESS


def test_no_response_no_second_flow(node: Node) -> None:
    node.workers.add(batch(exchange(status=0)))
    assert len(node.flows()) == 1


def test_default_deny_without_reason_names_the_selecting_policies(node: Node) -> None:
    node.workers.add(batch(exchange(verdict=Verdict.DROPPED, rule=0, status=403)))
    assert node.flows()[0].policy_log == ("default deny of default/api: no rule allows it",)


def test_a_connection_is_remembered_until_it_closes(node: Node) -> None:
    node.workers.add(batch(exchange()))
    node.workers.add(batch(exchange(), connections=[], closed=[1]))
    node.workers.add(batch(exchange(), connections=[]))
    sources = [flow.source.pod_name for flow in node.flows()[::2]]
    assert sources == ["web", "web", ""]
    assert node.flows()[4].ip == Ip("", "", 4)


def test_workers_have_connections_of_their_own(node: Node) -> None:
    node.workers.add(batch(exchange()))
    node.workers.add(batch(exchange(), connections=[], worker=1))
    node.workers.forget(0)
    node.workers.add(batch(exchange(), connections=[]))
    assert [flow.source.pod_name for flow in node.flows()[::2]] == ["web", "", ""]


def test_a_lying_worker_cannot_fill_the_agent(node: Node) -> None:
    told = [connection(number) for number in range(MAX_CONNECTIONS + 10)]
    node.workers.add(batch(exchange(number=9), exchange(number=10), connections=told))
    assert [flow.source.pod_name for flow in node.flows()[::2]] == ["", "web"]


def test_numbers_of_a_lying_worker_are_taken_as_errors(node: Node) -> None:
    node.workers.add(batch(exchange(verdict=77, direction=5, rule=-1, revision=-7, status=-3)))  # type: ignore[arg-type]
    assert [flow.verdict for flow in node.flows()] == [Verdict.ERROR, Verdict.FORWARDED]


def test_losses_and_counters(node: Node) -> None:
    node.workers.add(batch(exchange(), lost=5))
    node.workers.add(batch(exchange(), exchange()))
    lost = [item for item in node.observations() if isinstance(item, LostEvents)]
    assert [(item.source, item.count) for item in lost] == [(LostSource.OBSERVER_EVENTS_QUEUE, 5)]
    assert node.workers.totals == {"requests": 3}


def test_rules_of_an_older_revision_keep_their_names(node: Node) -> None:
    node.enricher.publish(Snapshot(4, snapshot().endpoints, snapshot().policies))
    node.workers.add(batch(exchange(revision=3), exchange(revision=4)))
    older, newer = node.flows()[0], node.flows()[2]
    assert older.ingress_allowed_by[0].name == "api"
    assert newer.ingress_allowed_by == ()


def test_the_ring_keeps_no_old_snapshot_alive() -> None:
    class Endpoints(dict):  # type: ignore[type-arg]
        """A dict that can be weakly referenced."""

    node = Node()
    endpoints = Endpoints(snapshot().endpoints)
    gone = weakref.ref(endpoints)
    node.enricher.publish(Snapshot(5, endpoints, snapshot().policies))
    node.workers.add(batch(exchange(revision=5), refused(revision=5)))
    node.enricher.publish(snapshot(6))
    del endpoints
    gc.collect()
    assert gone() is None
    assert node.flows()[0].destination.identity == API


@pytest.mark.parametrize(
    ("method", "target", "host", "url"),
    [
        (b"GET", b"/a?b=c", b"api", "http://api/a?b=c"),
        (b"GET", b"/a", b"", "http://10.0.0.2:8080/a"),
        (b"GET", b"http://other/a", b"api", "http://other/a"),
        (b"GET", b"/a?u=http://x", b"api", "http://api/a?u=http://x"),
        (b"OPTIONS", b"*", b"api", "http://api/*"),
        (b"CONNECT", b"db:5432", b"db:5432", "http://db:5432"),
        (b"GET", b"/\xff\xc3\xa4", b"api", "http://api/\\xff\u00e4"),
    ],
)
def test_urls_are_absolute(node: Node, method: bytes, target: bytes, host: bytes, url: str) -> None:
    node.workers.add(batch(exchange(method, target, host=host)))
    assert node.flows()[0].summary == f"HTTP/1.1 {method.decode()} {url}"


def test_ipv6(node: Node) -> None:
    node.workers.add(batch(exchange(host=b""), connections=[connection(v6=True)]))
    flow = node.flows()[0]
    assert flow.ip == Ip("fd00::1", "fd00::2", 6)
    assert flow.summary == "HTTP/1.1 GET http://[fd00::2]:8080/v1/items"
