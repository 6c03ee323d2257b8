"""What `penstock bpf` and `penstock monitor` show of a node under traffic, with its agent and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lab.support import Node, eventually

pytestmark = pytest.mark.lab


def penstock(node: Node, *arguments: str) -> subprocess.CompletedProcess[str]:
    agent = node.lab.agent
    environment = {
        **os.environ,
        "PENSTOCK_BPF_ROOT": str(agent.bpf_mount / "penstock"),
        "PENSTOCK_SOCK": str(agent.socket),
    }
    command = [sys.executable, "-m", "proxy", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def shown(node: Node, *arguments: str) -> Any:
    done = penstock(node, *arguments, "-o", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_flows(node: Node) -> None:
    with node.connection(81) as plain, node.http() as http:
        plain.sendall(b"hello")
        assert plain.recv(100) == b"hello"
        assert http.request("GET", "/public").status == 200
        client, server = node.address("shop/client", 4), node.address("shop/server", 4)
        flows = [flow for flow in shown(node, "bpf", "ct", "list") if flow["source"] == client]
        by_port = {flow["destinationPort"]: flow for flow in flows if flow["destination"] == server}
        assert (by_port[81]["verdict"], by_port[80]["verdict"]) == (0, 1)
        assert by_port[81]["sourcePort"] == plain.getsockname()[1]
        assert "replied" in by_port[81]["flags"]
        assert all(flow["idleSeconds"] < 60 for flow in by_port.values())
        table = penstock(node, "bpf", "ct", "list").stdout
        assert f"{client}:{plain.getsockname()[1]}   {server}:81" in table


def test_policies(node: Node) -> None:
    endpoints = {one["address"]: one for one in shown(node, "bpf", "endpoint", "list")}
    server = endpoints[node.address("shop/server", 4)]
    assert server["flags"] == ["enforce-ingress"]
    ((found),) = shown(node, "bpf", "policy", "get", str(server["id"]))
    client = endpoints[node.address("shop/client", 4)]["identity"]
    rows = {(row["identity"], *row["ports"], row["protocol"]): row for row in found["rows"]}
    assert rows[client, 80, 80, "TCP"]["proxy"]
    assert not rows[client, 81, 81, "TCP"]["proxy"]
    text = penstock(node, "bpf", "policy", "get", "--all").stdout
    assert "k8s:app=client" in text
    assert "81/TCP" in text
    assert str(client) in penstock(node, "bpf", "policy", "get", "--all", "-n").stdout


def test_prefixes(node: Node) -> None:
    prefixes = {item["prefix"]: item["identity"] for item in shown(node, "bpf", "ipcache", "list")}
    server = node.address("shop/server", 4)
    assert prefixes["0.0.0.0/0"] == 9
    found = penstock(node, "bpf", "ipcache", "get", server)
    assert found.stdout.startswith(f"{server} maps to identity={prefixes[f'{server}/32']} ")
    assert penstock(node, "bpf", "ipcache", "get", "2001:db8::99").returncode == 1
    assert penstock(node, "bpf", "ipcache", "get", "nonsense").returncode == 2


def test_counters(node: Node) -> None:
    node.is_silent(82)
    counts = {(one["code"], one["direction"]): one["packets"] for one in shown(node, "bpf", "metrics", "list")}
    assert counts[0, "EGRESS"] > 0
    assert counts[133, "INGRESS"] > 0


@pytest.mark.parametrize("arguments", [["policy", "get"], ["policy", "get", "4711"], ["policy", "get", "1", "--all"]])
def test_questions_without_an_answer(node: Node, arguments: list[str]) -> None:
    done = penstock(node, "bpf", *arguments)
    assert done.returncode in (1, 2)
    assert "endpoint" in done.stderr


@contextmanager
def monitored(node: Node, *arguments: str) -> Iterator[list[str]]:
    """The lines of `penstock monitor` of what happens meanwhile."""
    command = [sys.executable, "-m", "proxy", "monitor", *arguments, "--socket", str(node.lab.agent.socket)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stderr is not None
    assert "Ctrl-C" in child.stderr.readline()
    eventually(lambda: node.lab.agent.status()["hubble"]["observer"]["followers"] > 0)
    lines: list[str] = []
    try:
        yield lines
        time.sleep(0.5)
    finally:
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=10)
        lines += out.splitlines()
    assert child.returncode == 0


def test_monitor(node: Node) -> None:
    with monitored(node) as lines:
        port = node.is_silent(82)
        with node.http() as http:
            assert http.request("GET", "/secret").status == 403
    client, server = node.address("shop/client", 4), node.address("shop/server", 4)
    drops = [line for line in lines if line.startswith("xx drop (Policy denied)")]
    assert any(f"{client}:{port} -> {server}:82 tcp SYN" in line for line in drops)
    assert any("action deny" in line and ":82 tcp SYN" in line for line in lines)
    assert any("action redirect" in line and ":80 tcp SYN" in line for line in lines)
    assert any(line.startswith("-> Request http") and "verdict Denied GET http://" in line for line in lines)


def test_monitor_of_some_events(node: Node) -> None:
    endpoints = {one["address"]: one["id"] for one in shown(node, "bpf", "endpoint", "list")}
    server = endpoints[node.address("shop/server", 4)]
    with monitored(node, "-t", "drop", "--to", str(server), "-j") as lines:
        node.is_silent(82)
        with node.http() as http:
            assert http.request("GET", "/secret").status == 403
    found = [json.loads(line)["flow"] for line in lines]
    assert found
    assert {flow["event_type"]["type"] for flow in found} == {1}


def test_without_an_agent(node: Node) -> None:
    node.kill_agent()
    try:
        assert shown(node, "bpf", "ipcache", "list")
        done = penstock(node, "bpf", "policy", "get", "--all")
        assert done.returncode == 0
        assert "numbers" in done.stderr
        assert penstock(node, "monitor").returncode == 1
    finally:
        node.lab.agent.reap_ended()
        node.lab.start_agent()


def test_where_nothing_is_pinned(node: Node) -> None:
    done = penstock(node, "bpf", "ct", "list", "--bpf-root", "/sys/fs/bpf/nowhere")
    assert done.returncode == 1
    assert "nothing is pinned" in done.stderr
