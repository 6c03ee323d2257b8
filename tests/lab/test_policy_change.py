"""Editing policies while connections are open, well and badly."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.support import Node, eventually

pytestmark = pytest.mark.lab
Write = Callable[[str], None]


def text_of(policies: Path) -> str:
    return (policies / "server.yaml").read_text(encoding="utf-8")


def test_the_next_request_of_an_open_connection_meets_the_new_policy(
    node: Node, policies: Path, restored: Write
) -> None:
    before = text_of(policies)
    with node.http(4) as four, node.http(6) as six:
        assert [http.request("GET", "/public").status for http in (four, six)] == [200, 200]
        assert four.request("GET", "/new").status == 403
        restored(before.replace("/public.*", "/new"))
        for http in (four, six):
            eventually(lambda http=http: http.request("GET", "/public").status == 403)  # type: ignore[misc]
            assert http.request("GET", "/new").status == 200
        restored(before)
        for http in (four, six):
            eventually(lambda http=http: http.request("GET", "/public").status == 200)  # type: ignore[misc]
            assert http.request("GET", "/new").status == 403


def test_a_signal_reads_policies_again(node: Node, policies: Path, restored: Write) -> None:
    with node.http() as http:
        assert http.request("GET", "/hup").status == 403
        restored(text_of(policies).replace("/public.*", "/hup"))
        node.lab.reload()
        eventually(lambda: http.request("GET", "/hup").status == 200)


def test_a_port_that_is_no_longer_allowed_goes_silent(node: Node, policies: Path, restored: Write) -> None:
    with node.connection(81) as connection:
        connection.sendall(b"before")
        assert connection.recv(64) == b"before"
        revision = node.revision()
        restored(text_of(policies).replace('"81"', '"8181"'))
        eventually(lambda: node.revision() > revision)
        connection.settimeout(1.5)
        connection.sendall(b"after")
        with pytest.raises((TimeoutError, ConnectionError)):
            assert connection.recv(64) == b""
    node.is_silent(81)


@pytest.mark.parametrize(
    ("good", "bad", "line", "column"),
    [
        ("  endpointSelector:\n", "  endpointSelector: [\n", 0, 0),
        ('{port: "81", protocol: TCP}', '{port: "81", protocol: TPC}', 22, 0),
        ("{method: GET, path: /drip}", "{method: GET, paht: /drip}", 19, 0),
        ("{method: GET, path: /drip}", '{method: GET, path: "("}', 19, 0),
    ],
    ids=["not YAML", "unknown protocol", "unknown key", "bad expression"],
)
def test_a_broken_edit_changes_nothing_and_is_pointed_at(
    node: Node, policies: Path, restored: Write, good: str, bad: str, line: int, column: int
) -> None:
    text = text_of(policies)
    assert good in text
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
        revision = node.revision()
        restored(text.replace(good, bad).replace("/public.*", "/other"))
        findings = eventually(node.findings)
        assert node.revision() == revision
        assert http.request("GET", "/public").status == 200
        assert http.request("GET", "/other").status == 403
        node.is_silent(82)
    place = _place(policies, line)
    assert any(str(finding["file"]).endswith("server.yaml") for finding in findings)
    assert re.search(place, _status(node)), _status(node)
    assert re.search(place, node.lab.agent.log_file.read_text(encoding="utf-8"))
    done = _validate(policies)
    assert done.returncode == 1
    assert re.search(place, done.stdout + done.stderr), done.stdout + done.stderr
    restored(text)
    eventually(node.is_unbroken)
    assert _validate(policies).returncode == 0


def _place(policies: Path, line: int) -> str:
    return rf"server\.yaml:{line or '[0-9]+'}:[0-9]+"


def _status(node: Node) -> str:
    command = [sys.executable, "-m", "proxy", "status", "--socket", str(node.lab.agent.socket)]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout + done.stderr


def _validate(policies: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", "policy", "validate", str(policies)]
    return subprocess.run(command, capture_output=True, text=True)
