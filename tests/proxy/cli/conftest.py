"""A running agent behind a real socket, and the command as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import penstock
from tests.proxy.api.agent import Agent, running_agent
from tests.proxy.flows.samples import golden_node

Command = Callable[..., Result]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    with running_agent(tmp_path / "state", golden_node()) as agent:
        yield agent


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`run("status", "-o", "json")`. Variables of this machine do not count."""
    for name in ("PENSTOCK_SOCK", "PENSTOCK_STATE_DIR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)

    def invoke(*arguments: str, input: str | bytes | None = None) -> Result:  # noqa: A002
        return CliRunner().invoke(penstock, arguments, prog_name="penstock", input=input)

    return invoke


@pytest.fixture
def ask(run: Command, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`run`, of commands that ask the agent."""
    monkeypatch.setenv("PENSTOCK_SOCK", str(agent.socket))
    return run
