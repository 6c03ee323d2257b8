"""`penstock policy validate`: places, exit codes, and the JSON contract."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from config import codes
from config.policy.load import LoadedFile
from config.schema import COMMITTED
from proxy.cli.validate import Progress
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


LINTED = GOOD + "  - fromCIDR: [0.0.0.0/0]\n"


def test_lint(run: Command, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(LINTED)
    result = run("policy", "validate", str(tmp_path))
    assert f"{tmp_path}/p.yaml:9:5: info[CNP334] " in result.stdout
    assert result.exit_code == 0
    assert run("policy", "validate", "--strict", str(tmp_path)).exit_code == 0


def test_endpoints_say_what_selects_nobody(run: Command, folder: Path) -> None:
    pods = folder / "pods.txt"
    pods.write_text("endpoints: [{name: x, namespace: shop, labels: {app: web}, addresses: [10.0.0.1]}]")
    for option in ("--endpoints", "--endpoints-file"):
        result = run("policy", "validate", option, str(pods), str(folder))
        assert result.exit_code == 0
        assert "info[CNP339] no endpoint has the labels app=front" in result.stdout
    pods.write_text("endpoints: 5")
    assert run("policy", "validate", "--endpoints", str(pods), str(folder)).exit_code == 1


def test_endpoints_as_manifests(run: Command, folder: Path) -> None:
    pods = folder / "pods.txt"
    pods.write_text("apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shop, labels: {app: cart}}\n")
    result = run("policy", "validate", "--endpoints", str(pods), str(folder))
    assert "warning[CNP338]" in result.stdout


def test_quiet(run: Command, folder: Path) -> None:
    (folder / "p.yaml").write_text(LINTED.replace("name: web", "name: other"))
    assert run("policy", "validate", "-q", str(folder)).stdout == (
        f"2 files, 2 policies: 0 errors, 0 warnings, 2 notes\nAll policy elements in {folder} are valid.\n"
    )
    (folder / "warned.yaml").write_text(GOOD.partition("  ingress:")[0].replace("web,", "w,") + "  ingress: [{}]\n")
    assert "CNP304" not in run("policy", "validate", "-q", str(folder)).stdout
    assert "CNP304" in run("policy", "validate", "-q", "--strict", str(folder)).stdout


def test_github(run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("a,b:c.yaml").write_text(BAD)
    result = run("policy", "validate", "-o", "github", ".")
    assert result.exit_code == 1
    place, _, message = result.stdout.rstrip("\n").rpartition("::")
    assert place == "::error file=a%2Cb%3Ac.yaml,line=7,col=5,title=CNP001 unknown field"
    assert message == 'unknown field "fromEndpoint" (did you mean "fromEndpoints"?)'


def test_sarif(run: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("b ad.yaml").write_text(BAD)
    result = run("policy", "validate", "-o", "sarif", ".")
    assert result.exit_code == 1
    body = json.loads(result.stdout)
    assert body["version"] == "2.1.0"
    (found,) = body["runs"][0]["results"]
    rule = body["runs"][0]["tool"]["driver"]["rules"][found["ruleIndex"]]
    assert rule["id"] == found["ruleId"] == "CNP001"
    assert rule["help"]["text"]
    assert found["level"] == "error"
    (location,) = found["locations"]
    assert location["physicalLocation"] == {
        "artifactLocation": {"uri": "b%20ad.yaml"},
        "region": {"startLine": 7, "startColumn": 5},
    }
    assert location["logicalLocations"] == [{"fullyQualifiedName": "spec.ingress[0].fromEndpoint"}]


@pytest.mark.parametrize("output", ["text", "json", "github", "sarif"])
def test_codes_of_every_format_are_clean_without_findings(run: Command, folder: Path, output: str) -> None:
    result = run("policy", "validate", "-o", output, str(folder))
    assert result.exit_code == 0
    assert "CNP" not in result.stdout


def test_codes(run: Command) -> None:
    listed = json.loads(run("policy", "codes", "-o", "json").stdout)
    assert {item["code"] for item in listed} == set(codes.ALL)
    shown = run("policy", "codes", "cnp320").stdout
    assert shown.splitlines()[1].split()[:2] == ["CNP320", "warning"]
    assert codes.SHADOWED.hint in shown
    assert run("policy", "codes", "CNP999").exit_code == 1


def test_schema(run: Command) -> None:
    assert json.loads(run("policy", "schema").stdout) == json.loads(COMMITTED.read_text())


def test_a_terminal_is_told_how_far_long_work_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0, 1.0, 2.5, 2.51, 3.0]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(time, "monotonic", lambda: clock.pop(0) if clock else 0.0)
    progress = Progress()
    for _ in range(4):
        progress.step(LoadedFile("p.yaml"))
    progress.end()
    assert capsys.readouterr().err == "\r2 files read\r4 files read\r\x1b[K"
    quick = Progress()
    quick.step(LoadedFile("p.yaml"))
    quick.end()
    assert capsys.readouterr().err == ""
