"""`/v1/policy/explain`: the agent's answer, and questions that make no sense."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from config.policy.resolve import resolve
from config.settings import Settings
from proxy.api.client import AgentError, Client
from proxy.api.explain import parameters, parse
from proxy.questions import Asked
from tests.config.policy.builders import endpoints, load, policy
from tests.proxy.api.agent import Agent, running_agent
from tests.proxy.flows.samples import golden_node

WEB = policy("""
endpointSelector: {matchLabels: {id: a}}
ingress:
- fromEndpoints: [{matchLabels: {id: foo}}]
  toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]
""")
BY_NAME = policy("""
endpointSelector: {matchLabels: {id: foo}}
egress:
- toFQDNs: [{matchName: x.example}]
  toPorts:
  - {ports: [{port: "443", protocol: TCP}], serverNames: ["*.example"]}
  - {ports: [{port: "80", protocol: TCP}], rules: {http: [{}]}}
""")
ROUTE = "/v1/policy/explain"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    documents = load(WEB).documents
    with running_agent(tmp_path, golden_node()) as agent:
        agent.view.sources = documents
        agent.view.current = resolve(documents, endpoints(), Settings(), 5)
        yield agent


@pytest.mark.parametrize(
    ("pairs", "verdict", "l7"),
    [
        ((("from", "foo"), ("to", "a"), ("http", "GET /")), "allow", "allow"),
        ((("from", "foo"), ("to", "a"), ("http", "PUT /"), ("header", "x: 1"), ("header", "y: 2")), "deny", "deny"),
        ((("from", "foo"), ("to", "a"), ("port", "80/tcp")), "allow", None),
        ((("from", "id=foo"), ("to", "a"), ("port", "80/tcp"), ("namespace", "default")), "allow", None),
        ((("from", "other/foo"), ("to", "a"), ("port", "80/tcp"), ("all", "1")), "deny", None),
        ((("from", "a"), ("to", "x.example"), ("name", "x.example=192.0.2.1"), ("port", "443")), "allow", None),
    ],
)
def test_answers(agent: Agent, pairs: tuple[tuple[str, str], ...], verdict: str, l7: str | None) -> None:
    body = Client(agent.socket).get(ROUTE, pairs)
    assert set(body) == {"verdict", "egress", "ingress", "revision"}
    assert (body["verdict"], body["ingress"]["l7"], body["revision"]) == (verdict, l7, 5)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((), "parameter 'from' is missing"),
        ((("from", "a"),), "parameter 'to' is missing"),
        ((("from", "a"), ("to", "a")), "--port is missing"),
        ((("from", "a"), ("from", "b")), "parameter 'from' is given twice"),
        ((("form", "a"),), "unknown parameter 'form'"),
        ((("from", "a"), ("to", "a"), ("port", "80"), ("all", "maybe")), "all: expected true or false"),
        ((("from", "nobody"), ("to", "a"), ("port", "80")), "--from: there is no pod nobody"),
        ((("from", "id=nobody"), ("to", "a"), ("port", "80")), "has the labels id=nobody"),
        ((("from", "a"), ("to", "a"), ("http", "GET /%2f")), "an encoded slash"),
    ],
)
def test_questions_that_make_no_sense(agent: Agent, pairs: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(AgentError) as refused:
        Client(agent.socket).get(ROUTE, pairs)
    assert refused.value.status == 400
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("bind_names", "tls", "http"), [("off", True, True), ("tls", False, True), ("all", False, False)]
)
def test_the_agents_setting_says_what_names_bind(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, bind_names: str, tls: bool, http: bool
) -> None:
    monkeypatch.setattr(agent.view, "config", lambda: {"tofqdns_bind_names": bind_names})
    agent.view.sources = load(BY_NAME).documents
    agent.view.current = resolve(agent.view.sources, endpoints(), Settings(), 5)
    there = (("from", "foo"), ("to", "x.example"), ("name", "x.example=192.0.2.1"))
    for asked, is_allowed in ((("sni", "y.example"), tls), (("http", "GET http://y.example/"), http)):
        verdict = Client(agent.socket).get(ROUTE, (*there, asked))["verdict"]
        assert verdict == ("allow" if is_allowed else "deny")
    for good in (("sni", "x.example"), ("http", "GET /")):
        assert Client(agent.socket).get(ROUTE, (*there, good))["verdict"] == "allow"


def test_parameters_are_read_as_they_are_written() -> None:
    asked = Asked(
        source="a=b",
        destination="x",
        port="1",
        namespace="n",
        http="GET /",
        headers=("a: 1", "b: 2"),
        host="h",
        grpc="A/B",
        names=("x=1.1.1.1", "x=::1"),
    )
    assert parse(parameters(asked, everything=True)) == (asked, True)
    assert parse(parameters(Asked("a", "b"), everything=False)) == (Asked("a", "b"), False)
