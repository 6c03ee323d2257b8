"""Headers that rules add, replace and remove before the server sees them, with a secret that nobody else sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.flows.jsonpb import flow_to_json
from proxy.flows.model import L7Type, Verdict
from proxy.lab import Lab
from proxy.lab.progress import Progress
from tests.lab.support import Answer, Http, Node, eventually

pytestmark = pytest.mark.lab
HERE = Path(__file__).parent
FIRST, SECOND = "first-s3cret", "second-s3cret"
POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: server, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules:
        http:
        - path: "/edited.*"
          headerMatches:
          - {name: X-Token, secret: {name: token}, mismatch: REPLACE}
          - {name: X-Zone, value: eu, mismatch: ADD}
          - {name: X-Debug, value: "off", mismatch: DELETE}
          - {name: X-Note, value: seen, mismatch: LOG}
        - path: /members
          headerMatches: [{name: x-token, secret: {name: token}}]
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: client, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toPorts:
    - ports: [{port: "80", protocol: TCP}]
      rules:
        http:
        - {headerMatches: [{name: x-from, value: client, mismatch: REPLACE}]}
"""


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mounted Secret of one key."""
    folder = tmp_path_factory.mktemp("secrets") / "shop" / "token"
    (folder / "..1").mkdir(parents=True)
    (folder / "..1" / "password").write_text(f"{FIRST}\n", encoding="utf-8")
    (folder / "..data").symlink_to("..1")
    (folder / "password").symlink_to("..data/password")
    return folder


@pytest.fixture(scope="module")
def node(lab_name: str, tmp_path_factory: pytest.TempPathFactory, secret: Path) -> Iterator[Node]:
    policies = tmp_path_factory.mktemp("policies")
    (policies / "header-actions.yaml").write_text(POLICY, encoding="utf-8")
    settings = {"secrets-dir": str(secret.parent.parent)}
    files = [HERE / "workloads.yaml"]
    with Lab.up(lab_name, files, policies=policies, settings=settings, progress=Progress(quiet=True)) as lab:
        yield Node(lab)


def ask(http: Http, path: str, *fields: str, body: bytes = b"") -> Answer:
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", "Host: server.shop", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    http.send("\r\n".join((*lines, "", "")).encode() + body)
    return http.answer()


def headers(answer: Answer) -> dict[str, str]:
    """What the server got."""
    assert answer.status == 200
    found = json.loads(answer.body)["headers"]
    assert isinstance(found, dict)
    return {name: value for name, value in found.items() if name.startswith("x-")}


@pytest.mark.parametrize("ip", [4, 6])
def test_the_server_sees_edited_headers_and_the_record_says_which(node: Node, ip: int) -> None:
    with node.http(ip) as http:
        got = headers(ask(http, "/edited", "X-Token: theirs", "X-Debug: on", "X-Other: kept", "X-From: elsewhere"))
        assert got == {"x-token": FIRST, "x-zone": "eu", "x-other": "kept", "x-from": "client"}
        flow = node.flow(http.local_port, lambda flow: flow.l7 is not None and flow.l7.type is L7Type.REQUEST)
    assert flow.verdict is Verdict.FORWARDED
    assert flow.deciding is not None
    assert flow.deciding.reason.split("; ") == [
        'header "x-from" has another value',
        'header "x-token" has another value',
        'header "x-zone" is missing',
        'header "x-debug" has another value',
        'header "x-note" is missing',
    ]
    assert FIRST not in json.dumps(flow_to_json(flow))


@pytest.mark.parametrize("ip", [4, 6])
def test_what_is_as_it_should_be_passes_as_it_came(node: Node, ip: int) -> None:
    with node.http(ip) as http:
        fields = (f"X-Token: {FIRST}", "X-Zone: eu", "X-Debug: off", "X-Note: seen", "X-From: client")
        for _ in range(3):
            got = headers(ask(http, "/edited/as/it/is", *fields))
            assert got == {
                "x-token": FIRST,
                "x-zone": "eu",
                "x-debug": "off",
                "x-note": "seen",
                "x-from": "client",
            }


def test_bodies_follow_edited_heads(node: Node) -> None:
    with node.http() as http:
        for number in range(3):
            body = b"x" * (1000 * number + 1)
            answer = ask(http, f"/edited/{number}", body=body)
            assert headers(answer)["x-token"] == FIRST
            assert json.loads(answer.body)["body"]["length"] == len(body)


def test_a_new_secret_counts_on_an_open_connection_and_without_it_nothing_matches(node: Node, secret: Path) -> None:
    with node.http() as http:
        assert ask(http, "/members", f"X-Token: {FIRST}").status == 200
        assert ask(http, "/members", "X-Token: theirs").status == 403
        (secret / "..2").mkdir()
        (secret / "..2" / "password").write_text(SECOND, encoding="utf-8")
        (secret / "..new").symlink_to("..2")
        (secret / "..new").replace(secret / "..data")
        eventually(lambda: ask(http, "/members", f"X-Token: {SECOND}").status == 200)
        assert ask(http, "/members", f"X-Token: {FIRST}").status == 403
        assert headers(ask(http, "/edited"))["x-token"] == SECOND
        (secret / "..data").unlink()
        eventually(lambda: ask(http, "/members", f"X-Token: {SECOND}").status == 403)
        assert ask(http, "/edited").status == 403
        assert [finding["code"] for finding in node.findings()] == ["SEC001"]
        (secret / "..data").symlink_to("..1")
        eventually(lambda: ask(http, "/members", f"X-Token: {FIRST}").status == 200)


def test_nothing_that_the_agent_writes_has_the_secret(node: Node) -> None:
    with node.http() as http:
        assert ask(http, "/members", "X-Token: theirs").status == 403
        port = http.local_port
        flow = node.flow(port, lambda flow: flow.verdict is Verdict.DROPPED)
    assert flow.deciding is not None
    assert 'header "x-token" has another value' in flow.deciding.reason
    client = node.lab.agent.client
    told = [
        node.lab.agent.log_file.read_text(encoding="utf-8"),
        *(json.dumps(client.get(path)) for path in ("/v1/policy", "/v1/endpoint", "/v1/config")),
        *(json.dumps(flow_to_json(flow)) for flow in node.lab.flows()),
    ]
    assert all(text for text in told)
    for text in told:
        assert FIRST not in text
        assert SECOND not in text
