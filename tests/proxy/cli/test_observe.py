"""`penstock observe` against a real agent and from files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.flows.jsonpb import encode_line
from tests.proxy.api.agent import Agent
from tests.proxy.cli.conftest import Command
from tests.proxy.flows.samples import (
    DNS_SERVER,
    NOON,
    Node,
    batch,
    datagrams,
    dns,
    exchange,
    golden_node,
    refused,
    refused_dns,
)
from tests.proxy.flows.test_printers import GOLDEN


def test_compact_is_the_default(ask: Command) -> None:
    result = ask("observe")
    assert result.exit_code == 0, result.output
    assert result.output == GOLDEN


def lines(ask: Command, *arguments: str) -> list[int]:
    """Which of the golden lines are shown."""
    result = ask("observe", *arguments)
    assert result.exit_code == 0, result.output
    golden = GOLDEN.splitlines()
    return [golden.index(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--verdict", "DROPPED"], [2, 4]),
        (["--verdict", "DROPPED", "--not", "--type", "policy-verdict"], [2]),
        (["--not", "--verdict", "DROPPED", "--http-status", "4+"], [3]),
        (["--verdict", "DROPPED", "--verdict", "FORWARDED", "--not", "--verdict", "DROPPED"], [0, 1, 3]),
        (["-t", "l7", "--last", "2"], [2, 3]),
        (["--first", "1"], [0]),
        (["--all"], [0, 1, 2, 3, 4]),
        (["--last", "0"], []),
        (["-n", "default", "--to-port", "8080"], [0, 2]),
        (["-l", "app=api", "--http-method", "get"], [0, 1]),
        (["-A", "--pod", "web"], [0, 1, 2, 3, 4]),
        (["--until", "2026-01-02T03:04:06Z"], [0, 1]),
        (["--since", "2026-01-02T03:04:05.679Z", "--until", "2026-01-02T03:04:06.5Z"], [1, 2, 3]),
        (["--allowlist", '{"verdict":["DROPPED"]}', "--denylist", '{"destination_port":["443"]}'], [2]),
        (["--not", "--allowlist", '{"verdict":["DROPPED"]}'], [0, 1, 3]),
    ],
)
def test_filters(ask: Command, arguments: list[str], expected: list[int]) -> None:
    assert lines(ask, *arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--not"], "--not needs a filter after it"),
        (["--verdict", "DROPPED", "--not"], "--not needs a filter after it"),
        (["--not", "--not", "--verdict", "DROPPED"], "--not --not"),
        (["--verdict", "denied"], "unknown verdict 'denied'"),
        (["--first", "1", "--last", "1"], "cannot set both --first and --last"),
        (["--first", "1", "--all"], "cannot set both --first and --all"),
        (["--first", "1", "-f"], "cannot set both --first and --follow"),
        (["--last", "1", "--all"], "cannot set both --last and --all"),
        (["-f", "-o", "table"], "a table cannot follow"),
        (["--since", "yesterday"], "--since: 'yesterday' is no time"),
        (["--pod", "a", "-n", "b"], "filters --pod and --namespace cannot be combined"),
        (["--allowlist", "{"], "filter is not JSON"),
        (["-o", "xml"], "'xml' is not one of"),
    ],
)
def test_wrong_usage_is_2(ask: Command, arguments: list[str], message: str) -> None:
    result = ask("observe", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_json_and_jsonpb(ask: Command, agent: Agent) -> None:
    expected = [encode_line(flow) for flow in agent.node.flows()]
    for name in ("json", "jsonpb"):
        assert ask("observe", "-o", name).output.splitlines() == expected


def test_dict_and_table(ask: Command) -> None:
    assert ask("observe", "-o", "dict").output.count("------------\n") == 4
    assert ask("observe", "-o", "tab").output.splitlines()[0].split() == [
        "TIMESTAMP",
        "SOURCE",
        "DESTINATION",
        "TYPE",
        "VERDICT",
        "SUMMARY",
    ]


def test_colour(ask: Command) -> None:
    assert "\x1b" not in ask("observe").output
    assert "\x1b[31mDROPPED" in ask("observe", "--color", "always").output


def test_formatting_flags(ask: Command) -> None:
    assert "10.0.0.1:41000 (ID:3001) -> 10.0.0.2:8080" in ask("observe", "--numeric").output
    assert "Z [node-1]: " in ask("observe", "--print-node-name", "--time-format", "RFC3339").output
    assert "DENIED BY no-world (" in ask("observe", "--print-policy-names").output
    assert '[default deny of default/api: method "DELETE" is not "GET"]' in ask("observe", "--why").output


def test_raw_filters(run: Command) -> None:
    result = run("observe", "--print-raw-filters", "--pod", "web", "--not", "--http-path", "it's")
    assert result.output == (
        "allowlist:\n"
        """- '{"source_pod":["web"]}'\n"""
        """- '{"destination_pod":["web"]}'\n"""
        "denylist:\n"
        """- '{"http_path":["it''s"]}'\n"""
    )


@pytest.fixture
def recorded() -> bytes:
    return "".join(f"{encode_line(flow)}\n" for flow in golden_node().flows()).encode()


def test_input_file(run: Command, recorded: bytes) -> None:
    assert run("observe", "--input-file", "-", input=recorded).output == GOLDEN
    dropped = run("observe", "--input-file", "-", "--verdict", "DROPPED", "-t", "l7", input=recorded)
    assert dropped.output == GOLDEN.splitlines(keepends=True)[2]


def test_dns_flags(run: Command) -> None:
    node = Node(names_of=lambda endpoint, address: ("dns.test",) if address == DNS_SERVER else ())
    node.workers.add(batch(exchange()))
    node.workers.add(batch(dns=[dns(number=2), refused_dns()], connections=[datagrams(2)]))
    told = "".join(f"{encode_line(flow)}\n" for flow in node.flows())

    def shown(*arguments: str) -> list[str]:
        lines = run("observe", "--input-file", "-", *arguments, input=told).stdout.splitlines()
        return [line.rpartition(" (")[2] for line in lines]

    assert shown("--protocol", "dns", "--verdict", "DROPPED") == ["DNS Query evil.test. A)"]
    assert shown("--dns-query", r"stripe\.com\.$", "--to-port", "53") == ["DNS Query api.stripe.com. A)"]
    assert len(shown("--to-fqdn", "DNS.*")) == 3
    assert shown("--to-fqdn", "dns", "--protocol", "dns") == []
    wrong = run("observe", "--dns-query", "a", "--type", "drop")
    assert (wrong.exit_code, "needs event type l7" in wrong.stderr) == (2, True)


def test_fields_of_other_versions_pass_through_json(run: Command) -> None:
    line = '{"flow":{"verdict":"FORWARDED","Type":"L7","new_field":[1]},"node_name":"n"}\n'
    assert run("observe", "--input-file", "-", "-o", "json", input=line).output == line


def test_a_bad_line_is_located(run: Command, recorded: bytes, tmp_path: Path) -> None:
    path = tmp_path / "flows.json"
    path.write_bytes(recorded + b"oops\n" + recorded)
    result = run("observe", "--input-file", str(path))
    assert result.exit_code == 1
    assert f"{path}:6: not JSON" in result.stderr
    assert run("observe", "--input-file", str(path), "-s").output == GOLDEN * 2


def test_no_agent(run: Command, tmp_path: Path) -> None:
    result = run("observe", "--socket", str(tmp_path / "none.sock"))
    assert result.exit_code == 1
    assert "there is no such socket" in result.stderr
    assert "start it with `penstock run" in result.stderr


def start(agent: Agent, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "proxy", "observe", "--socket", str(agent.socket), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_following_until_ctrl_c(agent: Agent) -> None:
    with start(agent, "-f", "--last", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == GOLDEN.splitlines(keepends=True)[4]
        agent.do(lambda: agent.node.workers.add(batch(refused())))
        assert " http-request DROPPED " in process.stdout.readline()
        assert "403" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_following_ends_with_the_agent(agent: Agent) -> None:
    with start(agent, "-f", "--last", "1", "-o", "json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["flow"]["verdict"] == "DROPPED"
        agent.stop()
        assert process.wait(30) == 0


def test_a_reader_that_has_gone_is_no_error(agent: Agent) -> None:
    agent.do(lambda: agent.node.workers.add(batch(*[exchange()] * 2000)))
    with start(agent, "--all") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def test_a_terminal_that_knows_no_unicode(agent: Agent) -> None:
    agent.do(lambda: agent.node.workers.add(batch(exchange(target="/grüße".encode(), time_ns=NOON + 10**10))))
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-P", "-m", "proxy", "observe", "--socket", str(agent.socket), "--last", "2"]
    done = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert b"/gr\\xfc\\xdfe" in done.stdout
