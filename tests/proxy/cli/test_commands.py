"""The commands that ask the agent, and what is common to all."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.api.models import Component, State, WorkerView
from proxy.cli.main import _COMMANDS
from tests.proxy.api.agent import Agent
from tests.proxy.cli.conftest import Command

COMMANDS = [
    *([name] for name in _COMMANDS if name != "lab"),
    ["policy", "validate"],
    ["policy", "get"],
    ["endpoint", "list"],
    ["endpoint", "get"],
    ["identity", "list"],
    ["identity", "get"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_carries_examples(run: Command, command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    examples = result.output.partition("Examples:")[2].splitlines()
    assert sum(f"penstock {' '.join(command)}" in line for line in examples) >= 1


def test_help_names_every_command(run: Command) -> None:
    output = run("--help").output
    assert all(f"\n  {name} " in output for name in _COMMANDS)


def test_a_wrong_command_gets_a_suggestion(run: Command) -> None:
    result = run("observ")
    assert result.exit_code == 2
    assert "Did you mean 'observe'?" in result.stderr


HEAVY = (
    "aiohttp",
    "asyncio",
    "pydantic",
    "yaml",
    "re2",
    "msgspec",
    "uvloop",
    "watchfiles",
    "pyroute2",
    "config.settings",
)


@pytest.mark.parametrize(
    "command", [["--help"], ["observe", "--help"], ["status", "--help"], ["endpoint", "list", "--help"]]
)
def test_help_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\nfrom proxy.cli.main import penstock\n"
        f"penstock.main({command!r}, standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def test_status(ask: Command) -> None:
    result = ask("status")
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[0] == "Penstock:       Ok   0.1.0"
    assert lines[1].startswith("Node:           node-1, version 0.1.0, up ")
    assert lines[2:11] == [
        "Policy:         Ok   revision 3, 2 policies, enforcement default",
        "Endpoints:      2 local, 2 of them under policy, 1 remote; 4 identities",
        "Datapath:       Ok   4 programs on 2 interfaces",
        "                dropped ingress: 4 packets, Policy denied",
        "                endpoint 12 NOT ATTACHED: no interface veth12",
        "                forwarded: 10 ingress, 20 egress",
        "                interfaces: 2 attached",
        "Proxy Status:   OK, 1/1 workers ready, 1 redirects active",
        "                worker 0 (pid 4242): ready, revision 3, 1 connections",
    ]
    assert lines[11].startswith("Hubble:         Ok   Current/Max Flows: 5/4,095 (0.12%), Flows/s: ")


def test_status_of_a_broken_file(ask: Command, agent: Agent) -> None:
    agent.view.break_policy()
    result = ask("status")
    assert result.exit_code == 1
    assert "Penstock:       Degraded   1 file broken, last good version in force\n" in result.output
    assert "                BROKEN policies/web.yaml: its last good version stays in force\n" in result.output
    assert "policies/web.yaml:7:5: error CNP002: unknown field 'fromEndpoint'\n" in result.output
    assert "did you mean 'fromEndpoints'?" in result.output


def test_status_of_a_failure(ask: Command, agent: Agent) -> None:
    workers = (WorkerView(0, 1, True, 3), WorkerView(1, 2, False, 2, restarts=4))
    agent.view.answer = replace(agent.view.answer, workers=workers)
    result = ask("status")
    assert result.exit_code == 1
    assert "Failure, 1/2 workers ready" in result.output
    assert "worker 1 (pid 2): NOT READY, revision 2, 0 connections, 4 restarts" in result.output


def test_status_brief_and_json(ask: Command, agent: Agent) -> None:
    assert ask("status", "--brief").output == "Ok\n"
    agent.view.answer = replace(agent.view.answer, datapath=Component(State.FAILURE, "gone"))
    result = ask("status", "--brief")
    assert (result.exit_code, result.output) == (1, "Failure\n")
    assert json.loads(ask("status", "-o", "json").output)["datapath"]["msg"] == "gone"


def test_status_waits(ask: Command, agent: Agent) -> None:
    agent.view.answer = replace(agent.view.answer, pending=("datapath",))
    agent.loop.call_soon_threadsafe(
        agent.loop.call_later, 0.3, lambda: setattr(agent.view, "answer", replace(agent.view.answer, pending=()))
    )
    assert ask("status", "--wait", "--brief").output == "Ok\n"


def test_status_does_not_wait_for_ever(run: Command, tmp_path: Path) -> None:
    result = run("status", "--wait", "--wait-duration", "0", "--socket", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "there is no such socket" in result.stderr


def test_endpoint_list(ask: Command) -> None:
    lines = ask("endpoint", "list").output.splitlines()
    assert lines[0].split() == (
        [
            "ENDPOINT",
            "POLICY",
            "(ingress)",
            "POLICY",
            "(egress)",
            "IDENTITY",
            "LABELS",
            "(source:key[=value])",
            "IPv6",
            "IPv4",
            "STATUS",
        ]
    )
    assert lines[1].split() == ["ENFORCEMENT", "ENFORCEMENT"]
    assert lines[2].split() == ["11", "Disabled", "Enabled", "3001", "k8s:app=web", "fd00::1", "10.0.0.1", "ready"]
    assert lines[3].split() == ["k8s:io.kubernetes.pod.namespace=default"]
    assert lines[4].split()[1:3] == ["Enabled", "Disabled"]
    assert lines[3].index("k8s:") == lines[2].index("k8s:")


def test_endpoint_get(ask: Command) -> None:
    (endpoint,) = json.loads(ask("endpoint", "get", "pod-name:default:api").output)
    assert endpoint["id"] == 12
    result = ask("endpoint", "get", "99")
    assert result.exit_code == 1
    assert "there is no endpoint '99'" in result.stderr


def test_audit_shows(ask: Command, agent: Agent) -> None:
    endpoints = {number: replace(endpoint, audit=True) for number, endpoint in agent.view.current.endpoints.items()}
    agent.view.current = replace(agent.view.current, endpoints=endpoints)
    assert "Disabled (Audit)" in ask("endpoint", "list", "--no-headers").output.splitlines()[0]


def test_no_endpoints(ask: Command, agent: Agent) -> None:
    agent.view.current = replace(agent.view.current, endpoints={})
    result = ask("endpoint", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No endpoints" in result.stderr
    assert json.loads(ask("endpoint", "list", "-o", "json").output) == []


def test_identity_list(ask: Command) -> None:
    lines = ask("identity", "list").output.splitlines()
    assert [line.split() for line in lines[:3]] == [["ID", "LABELS"], ["2", "reserved:world"], ["3001", "k8s:app=web"]]
    assert "reserved:world" not in ask("identity", "list", "--endpoints").output
    assert json.loads(ask("identity", "get", "world").output)[0]["id"] == 2
    assert ask("identity", "get", "4711").exit_code == 1
    assert ask("identity", "get", "nobody").exit_code == 2


def test_policy_get(ask: Command) -> None:
    output = ask("policy", "get").output
    body, _, revision = output.rpartition("Revision: ")
    assert revision == "3\n"
    assert [item["name"] for item in json.loads(body)] == ["no-world", "api"]
    table = ask("policy", "get", "default/api", "-o", "table").output.splitlines()
    assert table[1].split() == ["CiliumNetworkPolicy", "default", "api", "ingress[0]", "policies/api.yaml:12", "1"]
    assert "no policy 'nothing'" in ask("policy", "get", "nothing").stderr


def test_version(ask: Command, run: Command, tmp_path: Path) -> None:
    assert ask("version").output.splitlines()[1] == "Daemon: 0.1.0"
    result = run("version", "--socket", str(tmp_path / "none"))
    assert result.exit_code == 0
    assert result.output.splitlines()[1] == "Daemon: not running"


def test_cleanup_spares_a_running_agent(run: Command, agent: Agent) -> None:
    result = run("cleanup", "--socket", str(agent.socket))
    assert result.exit_code == 1
    assert "an agent runs" in result.stderr


def test_cleanup_wants_to_be_sure(run: Command, tmp_path: Path) -> None:
    result = run("cleanup", "--socket", str(tmp_path / "none"), "--bpf-root", str(tmp_path))
    assert result.exit_code == 2
    assert "confirm it with --force" in result.stderr


def test_hostile_names_do_not_reach_the_terminal(ask: Command, agent: Agent) -> None:
    first = next(iter(agent.view.current.endpoints.values()))
    evil = replace(first, labels=frozenset({"k8s:a=\x1b[2J"}))
    agent.view.current = replace(agent.view.current, endpoints={11: evil})
    assert "\x1b" not in ask("endpoint", "list").output
