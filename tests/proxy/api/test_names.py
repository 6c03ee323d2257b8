"""`/v1/fqdn/*` through the socket, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from config.policy.resolved import EndpointPolicy
from proxy.api.client import AgentError, Client
from proxy.api.models import LearntName, Source
from proxy.api.names import CLEAN, LIST, Asked, parse
from tests.proxy.api.agent import Agent, running_agent
from tests.proxy.flows.samples import golden_node
from tests.proxy.names.fake import group, rule

V4, V6 = ip_address("1.1.1.1"), ip_address("2001:db8::1")
KNOWN = [
    LearntName(11, "api.stripe.com", (V4, V6), 60, 1_800_000_000.2, 1_800_000_060.2, Source.LOOKUP),
    LearntName(11, "old.example.com", (V4,), 5, 1_800_000_000, 1_700_000_000, Source.CONNECTION),
    LearntName(12, "www.example.com", (V6,), 5, 1_800_000_000, 1_800_000_005, Source.LOOKUP),
]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with running_agent(tmp_path / "state", golden_node()) as agent:
        agent.view.names.known = list(KNOWN)
        yield agent


@pytest.fixture
def client(agent: Agent) -> Client:
    return Client(agent.socket)


def names(client: Client, *parameters: tuple[str, str]) -> list[str]:
    return [item["fqdn"] for item in client.get("/v1/fqdn/cache", parameters)]


def test_list(client: Client) -> None:
    assert client.get("/v1/fqdn/cache")[0] == {
        "fqdn": "api.stripe.com.",
        "ips": ["1.1.1.1", "2001:db8::1"],
        "lookup-time": "2027-01-15T08:00:00Z",
        "ttl": 60,
        "expiration-time": "2027-01-15T08:01:00Z",
        "endpoint-id": 11,
        "source": "lookup",
    }
    assert len(names(client)) == 3


def test_filters(client: Client) -> None:
    assert names(client, ("endpoint", "12")) == ["www.example.com."]
    assert names(client, ("matchpattern", "*.example.com")) == ["old.example.com.", "www.example.com."]
    assert names(client, ("source", "connection")) == ["old.example.com."]
    assert names(client, ("endpoint", "11"), ("matchpattern", "*.example.com")) == ["old.example.com."]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("endpoint", "web", "expected its number"),
        ("endpoint", "-1", "expected its number"),
        ("matchpattern", "a b", "characters that no pattern has"),
        ("source", "dns", "expected lookup or connection"),
        ("pattern", "*", "did you mean 'matchpattern'?"),
        ("x", "*", "known are endpoint"),
    ],
)
def test_refused(client: Client, name: str, value: str, told: str) -> None:
    with pytest.raises(AgentError) as caught:
        client.get("/v1/fqdn/cache", [(name, value)])
    assert caught.value.status == 400
    assert told in f"{caught.value.message} {caught.value.hint}"


def test_nothing_is_deleted_by_half_a_question(agent: Agent, client: Client) -> None:
    for parameters in ([("source", "lookup")], [("endpoint", "11"), ("endpoint", "12")], [("matchpattern", "")]):
        with pytest.raises(AgentError):
            client.delete("/v1/fqdn/cache", parameters)
    assert agent.view.names.cleaned == []


def test_delete(agent: Agent, client: Client) -> None:
    assert client.delete("/v1/fqdn/cache") == {"forgotten": 3}
    client.delete("/v1/fqdn/cache", [("matchpattern", "*.example.com"), ("endpoint", "11")])
    assert agent.view.names.cleaned == [(None, None), ("*.example.com", 11)]


def test_parameters() -> None:
    assert parse([], LIST) == Asked()
    assert parse([("endpoint", "7"), ("matchpattern", "*")], CLEAN) == Asked(7, "*")


def test_selected(agent: Agent, client: Client) -> None:
    assert client.get("/v1/fqdn/names") == []
    current = agent.view.current
    old = current.policies[11]
    rules = (rule(group(70, "api.stripe.com", "*.example.com")), rule(group(71, "*.example.com")))
    egress = replace(old.egress, rules=(*old.egress.rules, *rules))
    policies = {**current.policies, 11: EndpointPolicy(old.ingress, egress)}
    agent.view.current = replace(current, policies=policies)
    globbed, named = client.get("/v1/fqdn/names", [("endpoint", "11")])
    assert globbed == {
        "endpoint-id": 11,
        "selectorString": "MatchName: , MatchPattern: *.example.com",
        "regexString": "^[-a-zA-Z0-9_]*[.]example[.]com[.]$",
        "matchName": "",
        "matchPattern": "*.example.com",
        "identities": [70, 71],
        "names": [{"fqdn": "old.example.com.", "ips": ["1.1.1.1"]}],
    }
    assert named["selectorString"] == "MatchName: api.stripe.com, MatchPattern: "
    assert named["names"] == [{"fqdn": "api.stripe.com.", "ips": ["1.1.1.1", "2001:db8::1"]}]
    assert client.get("/v1/fqdn/names", [("endpoint", "12")]) == []
