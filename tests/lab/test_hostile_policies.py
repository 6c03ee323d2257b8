"""Files that are meant to harm the agent: it says what is wrong with them, keeps what was in force, and goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.support import Node, eventually

pytestmark = pytest.mark.lab

GOOD = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: more, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: server}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: stranger}}]
    toPorts: [{ports: [{port: "81", protocol: TCP}]}]
"""
LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
BOMB = GOOD.replace("protocol: TCP}]", 'protocol: TCP}], rules: {http: [{path: "((a{100}){100}){100}"}]}')


def billion_laughs(path: Path) -> None:
    path.write_text(LAUGHS, encoding="utf-8")


def hundred_megabytes(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(100_000_000)


def half_written(path: Path) -> None:
    path.write_text(GOOD[: GOOD.index("matchLabels: {app: stranger")], encoding="utf-8")


def regex_bomb(path: Path) -> None:
    path.write_text(BOMB, encoding="utf-8")


def deep_nesting(path: Path) -> None:
    path.write_text("a: " + "[" * 100_000, encoding="utf-8")


def a_pipe(path: Path) -> None:
    pipe = path.with_name(".pipe")
    os.mkfifo(pipe)
    os.replace(pipe, path)


def a_loop(path: Path) -> None:
    link = path.with_name(".link")
    link.symlink_to(path.name)
    os.replace(link, path)


@pytest.fixture
def more(policies: Path, node: Node) -> Iterator[Path]:
    """A second policy file, in force; gone afterwards."""
    path = policies / "more.yaml"
    revision = node.revision()
    path.write_text(GOOD, encoding="utf-8")
    eventually(lambda: node.revision() > revision)
    yield path
    revision = node.revision()
    path.unlink()
    eventually(lambda: node.revision() > revision and node.is_unbroken())


@pytest.mark.parametrize(
    "harm",
    [billion_laughs, hundred_megabytes, half_written, regex_bomb, deep_nesting, a_pipe, a_loop],
    ids=lambda harm: harm.__name__,
)
def test_a_harmful_file_is_a_finding(node: Node, more: Path, harm: Callable[[Path], None]) -> None:
    pid, revision = node.lab.agent_pid, node.revision()
    harm(more)
    findings = eventually(node.findings)
    assert {finding["file"] for finding in findings} == {str(more)}
    assert node.revision() == revision
    # What it said when it was whole stays in force, and so does everything else.
    with node.connection(81, source="shop/stranger") as connection:
        connection.sendall(b"still")
        assert connection.recv(64) == b"still"
    with node.http() as http:
        assert http.request("GET", "/public").status == 200
        assert http.request("GET", "/secret").status == 403
    assert node.lab.agent_pid == pid


def test_folders_that_are_swapped_as_config_maps_are(node: Node, policies: Path) -> None:
    """`..data` leads to the version that counts; files are links through it."""
    base = GOOD.replace("name: more", "name: swapped")
    for number, port in enumerate(("82", "83")):
        version = policies / f"..version{number}"
        version.mkdir()
        (version / "swapped.yaml").write_text(base.replace('"81"', f'"{port}"'), encoding="utf-8")
    (policies / "..data").symlink_to("..version0")
    revision = node.revision()
    (policies / "swapped.yaml").symlink_to("..data/swapped.yaml")
    try:
        eventually(lambda: node.revision() > revision)
        with node.connection(82, source="shop/stranger") as connection:
            assert connection.getpeername()[1] == 82
        revision = node.revision()
        (policies / "..next").symlink_to("..version1")
        os.replace(policies / "..next", policies / "..data")
        eventually(lambda: node.revision() > revision)
        node.is_silent(82, source="shop/stranger")
    finally:
        for name in ("swapped.yaml", "..data"):
            (policies / name).unlink()
        for number in range(2):
            shutil.rmtree(policies / f"..version{number}")
    eventually(node.is_unbroken)


def test_a_folder_that_cannot_be_listed(node: Node, policies: Path) -> None:
    away = policies.with_name("away")
    revision = node.revision()
    policies.rename(away)
    try:
        eventually(node.findings)
        with node.http() as http:
            assert http.request("GET", "/public").status == 200
            assert http.request("GET", "/secret").status == 403
    finally:
        away.rename(policies)
    eventually(node.is_unbroken)
    assert node.revision() == revision
