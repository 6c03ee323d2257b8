"""`penstock lab` as it is typed: help, wrong usage, and what it says when there is nothing. No root needed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.lab import lab
from proxy.lab import names


@pytest.fixture(autouse=True)
def nothing_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "LABS_DIR", tmp_path / "labs")
    monkeypatch.setattr(names, "NETNS_DIR", tmp_path / "netns")
    monkeypatch.delenv("PENSTOCK_LAB", raising=False)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(lab, arguments)


@pytest.mark.parametrize("command", ["up", "exec", "list", "down", "demo"])
def test_help_has_examples(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"penstock lab {command}" in result.output


def test_exec_needs_a_lab_and_a_command() -> None:
    assert "there is no lab 'lab'" in invoke("exec", "web/a", "--", "true").output
    assert "there is no lab 'other'" in invoke("exec", "--name", "other", "web/a", "true").output
    result = invoke("exec", "web/a", "--")
    assert result.exit_code == 2


def test_the_only_lab_is_meant() -> None:
    (names.LABS_DIR / "shop").mkdir(parents=True)
    assert "lab shop is only half there" in invoke("exec", "web/a", "true").output


def test_list_of_nothing() -> None:
    result = invoke("list")
    assert result.exit_code == 0
    assert result.output.split() == ["NAME", "PODS", "ADDRESSES", "AGENT", "AGE"]


def test_list_shows_what_is_half_there() -> None:
    (names.LABS_DIR / "shop").mkdir(parents=True)
    assert invoke("list").output.splitlines()[1].split() == ["shop", "-", "-", "half", "there", "-"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("up",), "Missing option '-f'"),
        (("up", "a", "--name", "b", "-f", "/"), "two names are given"),
        (("up", "-f", "/", "--set", "x"), "expected KEY=VALUE"),
        (("up", "-f", "/nonexistent"), "does not exist"),
        (("down", "a", "--all"), "give a name or --all"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert message in result.output


def test_a_bad_name() -> None:
    result = invoke("up", "Shop", "-f", "/")
    assert result.exit_code == 1
    assert "'Shop' cannot be the name of a lab" in result.output


def test_an_unknown_scenario() -> None:
    result = invoke("demo", "--only", "nonesuch")
    assert result.exit_code == 1
    assert "there is foundational, http-ingress" in result.output
