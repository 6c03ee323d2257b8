"""Compiling: only when needed, never a stale object, errors with the compiler's words."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bpf import build
from bpf.errors import BuildError


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources that may be broken."""
    for part in ("include", "lib"):
        shutil.copytree(build.HERE / part, tmp_path / part)
    shutil.copy(build.SOURCE, tmp_path)
    monkeypatch.setattr(build, "HERE", tmp_path)
    monkeypatch.setattr(build, "SOURCE", tmp_path / build.SOURCE.name)
    monkeypatch.setattr(build, "OBJECT", tmp_path / build.OBJECT.name)
    return tmp_path


def test_compiles_once_and_again_when_a_header_changes(tree: Path) -> None:
    assert not build.is_current()
    assert build.build()
    assert build.is_current()
    assert not build.build()
    with (tree / "lib" / "ct.h").open("a") as header:
        header.write("/* changed */\n")
    assert not build.is_current()
    assert build.build()
    assert build.is_current()


def test_force_compiles_an_unchanged_tree(tree: Path) -> None:
    assert build.build()
    assert build.build(force=True)


def test_a_broken_source_says_where_and_leaves_the_old_object(tree: Path) -> None:
    build.build()
    old = build.OBJECT.read_bytes()
    with build.SOURCE.open("a") as source:
        source.write("int broken(void) { return missing; }\n")
    with pytest.raises(BuildError, match=r"penstock\.bpf\.c:\d+:\d+: error: use of undeclared identifier 'missing'"):
        build.build()
    assert build.OBJECT.read_bytes() == old
    assert not build.is_current()
    assert [path.name for path in tree.glob("*.tmp")] == []


def test_without_a_compiler_a_current_object_is_used_and_a_stale_one_is_not(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build.build()
    monkeypatch.setenv("PATH", str(tree))
    monkeypatch.delenv("CLANG", raising=False)
    assert not build.build()
    with build.SOURCE.open("a") as source:
        source.write("/* changed */\n")
    with pytest.raises(BuildError, match="clang is not installed"):
        build.build()


def test_the_command_is_silent_when_there_is_nothing_to_do() -> None:
    build.build()
    command = [sys.executable, "-m", "bpf.build", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=build.HERE.parent)
    assert (result.stdout, result.stderr) == ("", "")
