"""The API through its socket, with the real client."""

from __future__ import annotations

import json
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from proxy.api.client import AgentError, Client
from proxy.api.models import Component, State, WorkerView
from proxy.flows.ring import MAX_FOLLOWERS
from tests.proxy.api.agent import FINDING, Agent, running_agent
from tests.proxy.flows.samples import batch, connection, exchange, golden_node, refused


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with running_agent(tmp_path / "state", golden_node()) as agent:
        yield agent


@pytest.fixture
def client(agent: Agent) -> Client:
    return Client(agent.socket)


def flows(client: Client, *parameters: tuple[str, str]) -> list[dict[str, Any]]:
    return [json.loads(line)["flow"] for line in client.lines("/v1/flows", parameters)]


def test_the_socket_is_private_and_goes_with_the_agent(agent: Agent) -> None:
    mode = agent.socket.lstat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660
    assert stat.S_IMODE(agent.socket.parent.stat().st_mode) & 0o022 == 0
    agent.stop()
    assert not agent.socket.exists()


def test_health(client: Client) -> None:
    body = client.get("/v1/healthz")
    assert body["cilium"] == {"state": "Ok", "msg": "0.1.0"}
    assert body["policy"]["revision"] == 3
    assert body["endpoints"] == {"total": 3, "local": 2, "enforced": 2}
    assert body["proxy"]["total-redirects"] == 1
    assert body["hubble"]["observer"]["current-flows"] == 5
    assert body["hubble"]["observer"]["max-flows"] == 4095


def test_a_broken_file_degrades_but_serves(agent: Agent, client: Client) -> None:
    agent.view.break_policy()
    body = client.get("/v1/healthz")
    assert body["cilium"]["state"] == "Degraded"
    assert body["policy"]["stale-files"] == ["policies/web.yaml"]
    assert body["policy"]["findings"] == [FINDING.to_json()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datapath": Component(State.FAILURE, "no programs")}, "datapath: no programs"),
        ({"workers": (WorkerView(0, 1, True), WorkerView(1, 2, False))}, "not ready: worker 1"),
        ({"pending": ("datapath", "workers")}, "waiting for datapath, workers"),
    ],
)
def test_failures_are_503(agent: Agent, client: Client, change: dict[str, Any], message: str) -> None:
    agent.view.answer = replace(agent.view.answer, **change)
    with pytest.raises(AgentError) as caught:
        client.get("/v1/healthz")
    assert caught.value.status == 503
    body = client.get("/v1/healthz", accept=(503,))
    assert body["cilium"] == {"state": "Failure", "msg": message}


def test_policy(client: Client) -> None:
    body = client.get("/v1/policy")
    assert body["revision"] == 3
    assert body["policy"] == [
        {
            "kind": "CiliumClusterwideNetworkPolicy",
            "namespace": "",
            "name": "no-world",
            "rules": [{"id": 8, "rule": "egressDeny[0]", "file": "policies/deny.yaml", "line": 4}],
            "endpoints": [11],
        },
        {
            "kind": "CiliumNetworkPolicy",
            "namespace": "default",
            "name": "api",
            "rules": [{"id": 7, "rule": "ingress[0]", "file": "policies/api.yaml", "line": 12}],
            "endpoints": [12],
        },
    ]


def test_endpoints(client: Client) -> None:
    web, api, far = client.get("/v1/endpoint")
    assert web["status"]["policy"]["realized"] == {"policy-enabled": "egress", "policy-revision": 3}
    assert api["status"]["policy"]["realized"]["policy-enabled"] == "ingress"
    assert web["status"]["networking"]["addressing"] == [{"ipv6": "fd00::1", "ipv4": "10.0.0.1"}]
    assert far["status"]["state"] == "remote"
    assert client.get("/v1/endpoint/11") == web
    assert client.get("/v1/endpoint/pod-name:default:web") == web


def test_identities_and_config(client: Client) -> None:
    assert client.get("/v1/identity")[0] == {"id": 2, "labels": ["reserved:world"], "refcount": 0}
    assert client.get("/v1/config")["settings"]["state-dir"] == "/run/penstock"


def test_flows_with_and_without_filters(client: Client) -> None:
    assert len(flows(client)) == 5
    assert [flow["l7"]["http"]["method"] for flow in flows(client, ("verdict", "DROPPED"), ("type", "l7"))] == [
        "DELETE"
    ]
    assert len(flows(client, ("last", "2"))) == 2
    assert len(flows(client, ("denylist", '{"verdict":["DROPPED"]}'))) == 3
    assert len(flows(client, ("http_status", "403"))) == 1
    assert len(flows(client, ("since", "2026-01-02T03:04:06.5Z"))) == 1
    assert flows(client, ("since", "1s")) == []


def test_the_default_is_the_last_twenty(agent: Agent, client: Client) -> None:
    agent.do(lambda: agent.node.workers.add(batch(*[exchange()] * 50)))
    assert len(flows(client)) == 20
    assert len(flows(client, ("all", "true"))) == 105


@pytest.mark.parametrize(
    ("parameters", "message", "hint"),
    [
        ([("verdikt", "DROPPED")], "unknown parameter 'verdikt'", "did you mean 'verdict'?"),
        ([("verdict", "dropped")], "unknown verdict 'dropped'", ""),
        ([("last", "-1")], "last: expected a number", ""),
        ([("last", "1"), ("last", "2")], "parameter 'last' is given twice", ""),
        ([("follow", "maybe")], "follow: expected true or false", ""),
        ([("first", "1"), ("follow", "true")], "cannot set both first and follow", ""),
        ([("since", "yesterday")], "since: 'yesterday' is no time", ""),
        ([("allowlist", "{")], "allowlist: filter is not JSON", ""),
        ([("pod", "a"), ("namespace", "b")], "filters --pod and --namespace cannot be combined", ""),
    ],
)
def test_bad_parameters_say_why(client: Client, parameters: list[tuple[str, str]], message: str, hint: str) -> None:
    with pytest.raises(AgentError) as caught:
        list(client.lines("/v1/flows", parameters))
    assert caught.value.status == 400
    assert caught.value.message.startswith(message)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("route", "status", "message"),
    [
        ("/", 404, "there is no /"),
        ("/v1/nothing", 404, "there is no /v1/nothing"),
        ("/v1/endpoint/99", 404, "there is no endpoint '99'"),
    ],
)
def test_unknown_routes(client: Client, route: str, status: int, message: str) -> None:
    with pytest.raises(AgentError) as caught:
        client.get(route)
    assert (caught.value.status, caught.value.message) == (status, message)


def talk(agent: Agent, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(30)
        raw.connect(str(agent.socket))
        raw.sendall(request)
        answer = b""
        while part := raw.recv(65536):
            answer += part
        return answer


def test_the_api_only_reads(agent: Agent) -> None:
    answer = talk(agent, b"DELETE /v1/policy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 405 ")
    assert b"Allow: GET" in head
    assert json.loads(body)["error"]["code"] == "read-only"


def test_an_endless_request_line_is_refused(agent: Agent, client: Client) -> None:
    answer = talk(agent, b"GET /v1/flows?uuid=" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert client.get("/v1/healthz")


def follow(client: Client, *parameters: tuple[str, str]) -> tuple[threading.Thread, Queue[str | None]]:
    """Reads a stream in a thread; None ends it."""
    queue: Queue[str | None] = Queue()

    def read() -> None:
        for line in client.lines("/v1/flows", [("follow", "true"), *parameters], endless=True):
            queue.put(json.loads(line)["flow"]["uuid"])
        queue.put(None)

    thread = threading.Thread(target=read)
    thread.start()
    return thread, queue


def test_following(agent: Agent, client: Client) -> None:
    thread, queue = follow(client, ("last", "1"), ("verdict", "DROPPED"))
    first = queue.get(timeout=30)
    agent.do(lambda: agent.node.workers.add(batch(exchange(), refused())))
    second = queue.get(timeout=30)
    dropped = [flow.uuid for flow in agent.node.flows() if flow.drop_reason]
    assert [first, second] == dropped[-2:]
    agent.stop()
    assert queue.get(timeout=30) is None
    thread.join(30)


def wait_for_followers(agent: Agent, count: int) -> None:
    client = Client(agent.socket)
    for _ in range(3000):
        if client.get("/v1/healthz")["hubble"]["observer"]["followers"] == count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"never had {count} followers: {agent.node.ring.status()}")


def open_stream(agent: Agent) -> socket.socket:
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(30)
    raw.connect(str(agent.socket))
    raw.sendall(b"GET /v1/flows?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
    return raw


def test_an_observer_that_hangs_up_is_forgotten_at_once(agent: Agent) -> None:
    raw = open_stream(agent)
    wait_for_followers(agent, 1)
    raw.close()
    wait_for_followers(agent, 0)


def test_an_observer_that_does_not_read_loses_and_holds_nothing(agent: Agent) -> None:
    with open_stream(agent) as raw:
        wait_for_followers(agent, 1)
        for _ in range(60):
            agent.do(lambda: agent.node.workers.add(batch(*[exchange()] * 500)))
        follower = agent.node.ring._followers[0]
        assert len(follower._queue) <= follower._capacity
        agent.do(lambda: agent.node.workers.add(batch(refused(), connections=[connection(1)])))
        assert b"HTTP/1.1 200" in raw.recv(100)
        text = b""
        while b"HUBBLE_RING_BUFFER" not in text:
            text = text[-100:] + raw.recv(1 << 20)


def test_observers_are_limited(agent: Agent, client: Client) -> None:
    streams = [open_stream(agent) for _ in range(MAX_FOLLOWERS)]
    wait_for_followers(agent, MAX_FOLLOWERS)
    with pytest.raises(AgentError, match="observers follow already"):
        next(client.lines("/v1/flows", [("follow", "true")]))
    for stream in streams:
        stream.close()
    wait_for_followers(agent, 0)
