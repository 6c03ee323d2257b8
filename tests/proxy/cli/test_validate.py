"""`penstock policy validate`: places, exit codes, and the JSON contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.proxy.cli.conftest import Command

GOOD = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints:
    - matchLabels: {app: front}
"""
BAD = GOOD.replace("fromEndpoints", "fromEndpoint")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def test_good_files(run: Command, folder: Path) -> None:
    result = run("policy", "validate", str(folder))
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(f"All policy elements in {folder} are valid.\n")


def test_bad_files_are_located(run: Command, folder: Path) -> None:
    bad = folder / "bad.yaml"
    bad.write_text(BAD)
    result = run("policy", "validate", str(folder))
    assert result.exit_code == 1
    assert f"{bad}:7:5: error[" in result.stdout
    assert "Validation of policy" in result.stderr


def test_json_contract(run: Command, folder: Path) -> None:
    (folder / "bad.yaml").write_text(BAD)
    result = run("policy", "validate", "-o", "json", str(folder / "good.yaml"), str(folder / "bad.yaml"))
    assert result.exit_code == 1
    body = json.loads(result.stdout)
    assert body["valid"] is False
    good, bad = body["files"]
    assert good["documents"] == [{"kind": "CiliumNetworkPolicy", "namespace": "shop", "name": "web", "valid": True}]
    assert bad["documents"][0]["valid"] is False
    assert set(bad["findings"][0]) == {"code", "severity", "line", "column", "path", "message", "hint"}


def test_strict(run: Command, folder: Path) -> None:
    path = folder / "warned.yaml"
    # Allows nothing at all, which Cilium accepts silently.
    path.write_text(GOOD.partition("  ingress:")[0] + "  ingress: [{}]\n")
    relaxed, strict = run("policy", "validate", str(path)), run("policy", "validate", "--strict", str(path))
    assert "warning[" in relaxed.stdout
    assert (relaxed.exit_code, strict.exit_code) == (0, 1)


def test_what_is_not_there(run: Command, tmp_path: Path) -> None:
    result = run("policy", "validate", str(tmp_path / "none.yaml"))
    assert result.exit_code == 1
    assert "cannot be read: No such file or directory" in result.stdout
    assert run("policy", "validate").exit_code == 2


def test_hostile_text_is_shown_harmless(run: Command, tmp_path: Path) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text(GOOD.replace("fromEndpoints", r'"from\x1b[2J"'))
    result = run("policy", "validate", str(path))
    assert result.exit_code == 1
    assert "\x1b" not in result.output
