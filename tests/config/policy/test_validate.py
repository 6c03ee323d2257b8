from __future__ import annotations

import json
from pathlib import Path

from config.policy.validate import validate
from tests.config.policy.builders import policy

GOOD = policy("endpointSelector: {}\ningress: [{fromEntities: [world]}]")
WARNED = policy("endpointSelector: {}\ningress: []", name="warned")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_json(tmp_path: Path) -> None:
    good = write(tmp_path, "a.yaml", GOOD)
    bad = write(tmp_path, "b.yaml", GOOD.replace("name: p", "name: q").replace("world", "moon"))
    body = validate([tmp_path]).to_json()
    assert json.loads(json.dumps(body)) == body
    assert body["valid"] is False
    assert body["files"][0] == {
        "path": str(good),
        "documents": [{"kind": "CiliumNetworkPolicy", "namespace": "default", "name": "p", "valid": True}],
        "findings": [],
    }
    assert body["files"][1]["path"] == str(bad)
    assert body["files"][1]["documents"][0]["valid"] is False
    (finding,) = body["files"][1]["findings"]
    assert finding.pop("hint").startswith("known: all, world")
    assert finding == {
        "code": "CNP112",
        "severity": "error",
        "line": 6,
        "column": 29,
        "path": "spec.ingress[0].fromEntities[0]",
        "message": 'unsupported entity "moon"',
    }


def test_text(tmp_path: Path) -> None:
    path = write(tmp_path, "w.yaml", WARNED)
    assert validate([path]).to_text() == (
        f"{path}:6:3: warning[CNP301] `ingress: []` is taken as default deny\n"
        "    Cilium counts it as absent; `- {}` means default deny in both\n"
        "1 files, 1 policies: 0 errors, 1 warnings, 0 notes\n"
    )


def test_strict_counts_warnings(tmp_path: Path) -> None:
    path = write(tmp_path, "w.yaml", WARNED)
    assert validate([path]).valid
    assert not validate([path], strict=True).valid


def test_folders_are_read_as_the_agent_reads_them(tmp_path: Path) -> None:
    for name in (".hidden.yaml", "a.yaml~", "notes.txt", "..data/x.yaml", "#a.yaml#"):
        write(tmp_path, name, "broken: [")
    write(tmp_path, "team/a.yml", GOOD)
    (tmp_path / "loop").symlink_to(tmp_path)
    body = validate([tmp_path]).to_json()
    assert [file["path"] for file in body["files"]] == [str(tmp_path / "team/a.yml")]
    assert body["valid"]


def test_duplicates_are_told_across_files(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", GOOD)
    write(tmp_path, "b.yaml", GOOD)
    body = validate([tmp_path]).to_json()
    assert [file["documents"][0]["valid"] for file in body["files"]] == [True, False]
    assert body["files"][1]["findings"][0]["code"] == "DOC003"


def test_a_file_given_twice_is_read_once(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", GOOD)
    assert len(validate([path, tmp_path]).files) == 1


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    report = validate([tmp_path / "no.yaml"])
    assert not report.valid
    assert report.files[0].findings[0].code == "YML010"


def test_endpoints_are_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path, "endpoints.yaml", "endpoints: [{name: x}]")
    report = validate([write(tmp_path, "p.yaml", GOOD)], [path])
    assert not report.valid
    assert report.files[-1].findings[0].code == "EPF001"
