"""What passes and what does not, over IPv4 and IPv6, and that flow records say why."""

from __future__ import annotations

import json

import pytest

from proxy.flows.model import Flow, L7Type, Verdict
from tests.lab.support import Node

pytestmark = [pytest.mark.lab, pytest.mark.parametrize("ip", [4, 6])]
DENIED = b"Access denied\r\n"


def curl(node: Node, ip: int, *arguments: str, source: str = "shop/client") -> tuple[int, bytes]:
    """Status and body, by a real curl."""
    command = ["curl", "-sS", f"-{ip}", "--max-time", "10", "-w", "\n%{http_code}", *arguments]
    done = node.lab.exec(source, command, text=False)
    assert done.returncode == 0, done.stderr
    body, _, status = done.stdout.rpartition(b"\n")
    return int(status), body


def test_allowed_requests_reach_the_server_from_the_pods_own_address(node: Node, ip: int) -> None:
    status, body = curl(node, ip, "http://server/public")
    address = node.address("shop/client", ip)
    assert status == 200
    assert json.loads(body)["client"] == address
    assert f"{address} GET /public 200" in node.server_log()


@pytest.mark.parametrize(("method", "path"), [("POST", "/public"), ("DELETE", "/public"), ("GET", "/secret")])
def test_other_requests_are_answered_403_and_never_reach_it(node: Node, ip: int, method: str, path: str) -> None:
    path = f"{path}?{method}{ip}"
    status, body = curl(node, ip, "-X", method, f"http://server{path}")
    assert (status, body) == (403, DENIED)
    assert len(body) == 15
    assert not any(path in line for line in node.server_log())


def test_the_connection_stays_usable_after_a_refusal(node: Node, ip: int) -> None:
    with node.http(ip) as http:
        assert http.request("GET", "/public/before").status == 200
        refused = http.request("DELETE", "/public", b"some body")
        assert (refused.status, refused.body) == (403, DENIED)
        assert refused.headers["content-length"] == "15"
        after = http.request("GET", "/public/after")
        assert after.status == 200
        assert json.loads(after.body)["path"] == "/public/after"


def test_flow_records_of_requests_name_the_policy(node: Node, ip: int) -> None:
    def request(verdict: Verdict) -> Flow:
        return node.flow(
            port, lambda flow: flow.verdict is verdict and flow.l7 is not None and flow.l7.type is L7Type.REQUEST
        )

    with node.http(ip) as http:
        port = http.local_port
        http.request("GET", "/public")
        http.request("PUT", "/public")
        allowed = request(Verdict.FORWARDED)
        denied = request(Verdict.DROPPED)
    assert (allowed.source.pod_name, allowed.destination.pod_name) == ("client", "server")
    assert [policy.name for policy in allowed.ingress_allowed_by] == ["server"]
    assert allowed.deciding is not None
    assert (allowed.deciding.file.rpartition("/")[2], allowed.deciding.rule) == ("server.yaml", "ingress[0]")
    assert denied.drop_reason_desc == "POLICY_DENIED"
    assert denied.l7 is not None
    assert denied.l7.http is not None
    assert denied.l7.http.method == "PUT"
    assert [policy.name for policy in denied.ingress_denied_by] == ["server"]


def test_plain_ports_are_not_touched(node: Node, ip: int) -> None:
    with node.connection(81, ip) as connection:
        connection.sendall(b"not HTTP at all\0\xff")
        assert connection.recv(64) == b"not HTTP at all\0\xff"
    address = node.address("shop/client", ip)
    assert f"{address} connected" in node.lab.log("shop/server", "plain")


@pytest.mark.parametrize(("source", "port"), [("shop/client", 82), ("shop/stranger", 80), ("shop/stranger", 81)])
def test_denied_connections_get_nothing_and_a_flow_record(node: Node, ip: int, source: str, port: int) -> None:
    local = node.is_silent(port, ip, source)
    flow = node.flow(local, lambda flow: flow.verdict is Verdict.DROPPED)
    assert flow.drop_reason_desc == "POLICY_DENIED"
    assert flow.source.pod_name == source.partition("/")[2]
    assert (flow.destination.pod_name, flow.l4 and flow.l4.destination_port) == ("server", port)
    assert [policy.name for policy in flow.ingress_denied_by] == ["server"]


def test_the_outside_world_is_denied_too(node: Node, ip: int) -> None:
    local = node.is_silent(81, ip, "world")
    assert node.flow(local, lambda flow: flow.verdict is Verdict.DROPPED).drop_reason_desc == "POLICY_DENIED"


def test_a_pod_that_uses_anothers_address_is_dropped(node: Node, ip: int) -> None:
    stolen = node.address("shop/client", ip)
    change = ["ip", "address", "{}", f"{stolen}/{128 if ip == 6 else 32}", "dev", "lo"]
    node.lab.exec("shop/stranger", [word.format("add") for word in change] + ["nodad"] * (ip == 6), check=True)
    try:
        local = node.is_silent(81, ip, "shop/stranger", bind=stolen)
    finally:
        node.lab.exec("shop/stranger", [word.format("del") for word in change], check=True)
    flow = node.flow(local, lambda flow: flow.verdict is Verdict.DROPPED)
    assert flow.drop_reason_desc == "INVALID_SOURCE_IP"


def test_what_no_policy_selects_is_open(node: Node, ip: int) -> None:
    status, _ = curl(node, ip, "http://api.stripe.com/anything", source="shop/stranger")
    assert status == 200
