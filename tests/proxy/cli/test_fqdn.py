"""`penstock fqdn`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from config.policy.resolved import EndpointPolicy
from tests.proxy.api.agent import Agent
from tests.proxy.api.test_names import KNOWN
from tests.proxy.cli.conftest import Command
from tests.proxy.names.fake import group, rule


@pytest.fixture(autouse=True)
def known(agent: Agent) -> None:
    agent.view.names.known = list(KNOWN)


@pytest.mark.parametrize("command", [["cache"], ["cache", "list"], ["cache", "clean"], ["names"]], ids=" ".join)
def test_every_help_carries_examples(run: Command, command: list[str]) -> None:
    result = run("fqdn", *command, "--help")
    assert result.exit_code == 0
    assert f"penstock fqdn {' '.join(command)}" in result.output.partition("Examples:")[2]


def test_list(ask: Command) -> None:
    lines = ask("fqdn", "cache", "list").output.splitlines()
    assert lines[0].split() == ["Endpoint", "Source", "FQDN", "TTL", "ExpirationTime", "IPs"]
    assert lines[1].split() == [
        "11",
        "lookup",
        "api.stripe.com.",
        "60",
        "2027-01-15T08:01:00Z",
        "1.1.1.1,2001:db8::1",
    ]
    assert len(lines) == 4
    assert len(ask("fqdn", "cache", "list", "--no-headers", "-s", "lookup").output.splitlines()) == 2


def test_list_as_json(ask: Command) -> None:
    found = json.loads(ask("fqdn", "cache", "list", "-e", "11", "-p", "*.example.com", "-o", "json").output)
    assert [item["fqdn"] for item in found] == ["old.example.com."]


def test_list_of_nothing(ask: Command) -> None:
    result = ask("fqdn", "cache", "list", "-e", "99")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No names" in result.stderr


def test_a_pattern_that_is_none(ask: Command) -> None:
    result = ask("fqdn", "cache", "list", "-p", "a b")
    assert result.exit_code == 1
    assert "matchpattern" in result.stderr


def test_clean(ask: Command, agent: Agent) -> None:
    result = ask("fqdn", "cache", "clean", "-p", "*.example.com", "-e", "11", "-f")
    assert result.output == "3 names forgotten.\n"
    assert agent.view.names.cleaned == [("*.example.com", 11)]


def test_clean_does_not_do_it_unasked(ask: Command, agent: Agent) -> None:
    result = ask("fqdn", "cache", "clean")
    assert result.exit_code == 2
    assert "--force" in result.stderr
    assert agent.view.names.cleaned == []


def test_names(ask: Command, agent: Agent) -> None:
    assert "No selectors" in ask("fqdn", "names").stderr
    current = agent.view.current
    old = current.policies[11]
    egress = replace(old.egress, rules=(rule(group(70, "api.stripe.com", "**.com", "none.org")),))
    agent.view.current = replace(current, policies={11: EndpointPolicy(old.ingress, egress)})
    lines = [line.split() for line in ask("fqdn", "names").output.splitlines()]
    assert lines == [
        ["Endpoint", "Selector", "Identities", "FQDN", "IPs"],
        ["11", "**.com", "70", "api.stripe.com.", "1.1.1.1,2001:db8::1"],
        ["old.example.com.", "1.1.1.1"],
        ["11", "api.stripe.com", "70", "api.stripe.com.", "1.1.1.1,2001:db8::1"],
        ["11", "none.org", "70"],
    ]
    found = json.loads(ask("fqdn", "names", "-o", "json").output)
    assert [item["matchPattern"] or item["matchName"] for item in found] == ["**.com", "api.stripe.com", "none.org"]
