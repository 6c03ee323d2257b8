"""`penstock policy test` and `diff`: exit codes and forms of output."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.proxy.cli.conftest import Command
from tests.proxy.test_cases import PODS, POLICY, TABLE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    good = "\n".join(TABLE.splitlines()[:4]) + "\n"
    texts = {"policy.yaml": POLICY, "pods.yaml": PODS, "cases.yaml": TABLE, "good.yaml": good}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def arguments(folder: Path, table: str, *more: str) -> list[str]:
    files = ("--policies", str(folder / "policy.yaml"), "--endpoints", str(folder / "pods.yaml"))
    return ["policy", "test", str(folder / table), *files, *more]


def test_all_as_expected(run: Command, folder: Path) -> None:
    result = run(*arguments(folder, "good.yaml"))
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("\n3 passed, 0 failed\n")


def test_some_not_as_expected(run: Command, folder: Path) -> None:
    result = run(*arguments(folder, "cases.yaml"))
    assert result.exit_code == 1
    assert result.stdout.endswith("\n5 passed, 3 failed\n")
    assert f"{folder / 'cases.yaml'}:12: wrong: expected deny, seen allow" in result.stderr


def test_json(run: Command, folder: Path) -> None:
    result = run(*arguments(folder, "cases.yaml", "-o", "json"))
    body = json.loads(result.stdout)
    assert body["ok"] is False
    assert [case["seen"] for case in body["cases"]] == [
        "allow",
        "deny",
        "allow",
        "allow",
        "deny",
        "allow",
        "allow",
        None,
    ]


def test_junit(run: Command, folder: Path) -> None:
    suite = ElementTree.fromstring(run(*arguments(folder, "cases.yaml", "-o", "junit")).stdout)
    assert (suite.get("tests"), suite.get("failures")) == ("8", "3")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert failed == ["wrong", "other policy", "nobody"]


def test_broken_files(run: Command, folder: Path) -> None:
    (folder / "cases.yaml").write_text("cases: [{}]")
    result = run(*arguments(folder, "cases.yaml"))
    assert result.exit_code == 2
    assert "cases.yaml:1:" in result.stderr
    assert not result.stdout


def test_diff(run: Command, folder: Path) -> None:
    (folder / "other.yaml").write_text(POLICY.replace("method: GET", "method: PUT"))
    given = ("--endpoints", str(folder / "pods.yaml"))
    same = run("policy", "diff", str(folder / "policy.yaml"), str(folder / "policy.yaml"), *given)
    assert (same.exit_code, same.stdout) == (0, "no difference\n")
    other = run("policy", "diff", str(folder / "policy.yaml"), str(folder / "other.yaml"), *given)
    assert other.exit_code == 1
    assert other.stdout == (
        "shop/cart: ingress\n  ~ 80/TCP from shop/front: HTTP rules -: GET /items.* -> HTTP rules +: PUT /items.*\n"
    )
    (folder / "other.yaml").write_text("a: [")
    broken = run("policy", "diff", str(folder / "policy.yaml"), str(folder / "other.yaml"), *given)
    assert broken.exit_code == 2
    assert "other.yaml:2:1: error" in broken.stderr
