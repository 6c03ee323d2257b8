"""`penstock policy selectors` and `wait`, asking an agent."""

from __future__ import annotations

import json

from tests.proxy.api.agent import Agent
from tests.proxy.cli.conftest import Command


def test_selectors(run: Command, agent: Agent) -> None:
    result = run("policy", "selectors", "--socket", str(agent.socket))
    assert result.exit_code == 0, result.output
    header, line = (text.split() for text in result.stdout.splitlines())
    assert header == ["SELECTOR", "LABELS", "USERS", "IDENTITIES"]
    assert line == ["app=web", "shop/web", "2", "300", "301"]
    verbose = run("policy", "selectors", "-v", "--socket", str(agent.socket))
    assert len(verbose.stdout.splitlines()) == 3


def test_selectors_as_json(run: Command, agent: Agent) -> None:
    (item,) = json.loads(run("policy", "selectors", "-o", "json", "--socket", str(agent.socket)).stdout)
    assert item["labels"] == [{"kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "web"}]
    assert (item["selector"], item["users"], item["identities"]) == ("app=web", 2, [300, 301])


def test_wait(run: Command, agent: Agent) -> None:
    revision = agent.view.current.revision
    done = run("policy", "wait", str(revision), "--socket", str(agent.socket))
    assert (done.exit_code, done.stdout) == (0, f"Revision: {revision}\n")
    late = run("policy", "wait", str(revision + 1), "--max-wait-time", "0", "--socket", str(agent.socket))
    assert late.exit_code == 1
    assert f"revision {revision} is in force" in late.stderr


def test_wait_without_an_agent(run: Command, tmp_path: object) -> None:
    result = run("policy", "wait", "1", "--fail-wait-time", "0", "--socket", f"{tmp_path}/none.sock")
    assert result.exit_code == 1
    assert "cannot be asked" in result.stderr
