"""The state file: comes back as it was, and nothing that is broken is believed."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.names import saved
from proxy.names.records import Lease
from proxy.names.store import Known
from tests.proxy.names.fake import packed

KNOWN = [
    Known(7, "a.com", packed("1.1.1.1"), Lease(1060, 60), 0),
    Known(7, "a.com", packed("2001:db8::1"), Lease(1060, 60), 0),
    Known(8, "", packed("1.1.1.1"), Lease(900, 5), 1000),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "names"


def test_comes_back(path: Path) -> None:
    saved.save(path, KNOWN, "boot")
    assert saved.load(path, "boot") == [tuple(item)[:4] for item in KNOWN]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["names"]


def test_replaces_what_was_there(path: Path) -> None:
    saved.save(path, KNOWN, "boot")
    path.with_name(".names.new").write_text("an agent was killed while it wrote this")
    saved.save(path, KNOWN[:1], "boot")
    assert len(saved.load(path, "boot")) == 1
    assert os.listdir(path.parent) == ["names"]


def test_a_failure_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved.save(path, KNOWN, "boot")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        saved.save(path, [], "boot")
    assert len(saved.load(path, "boot")) == 3
    assert os.listdir(path.parent) == ["names"]


def test_no_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert saved.load(path, "boot") == []
    assert not caplog.records


def test_another_boot(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved.save(path, KNOWN, "boot")
    assert saved.load(path, "another") == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("boot", ["", "another"])
def test_a_boot_that_is_not_known_is_no_boot(path: Path, boot: str) -> None:
    saved.save(path, KNOWN, "")
    assert saved.load(path, boot) == []


GOOD = '{"version":1,"boot":"boot","names":[{"endpoint":7,"name":"a.com","addresses":[["AQEBAQ==",1060,60]]}]}'


def test_the_format(path: Path) -> None:
    """What an earlier version wrote must be readable: change the version with it."""
    path.write_text(GOOD)
    assert saved.load(path, "boot") == [(7, "a.com", packed("1.1.1.1"), Lease(1060, 60))]
    saved.save(path, KNOWN[:1], "boot")
    assert path.read_text() == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        GOOD[:-20],
        GOOD.replace('"version":1', '"version":2'),
        GOOD.replace('"endpoint":7', '"endpoint":0'),
        GOOD.replace('"endpoint":7', '"endpoint":65536'),
        GOOD.replace("AQEBAQ==", "AQEBAQE="),
        GOOD.replace("AQEBAQ==", "!"),
        GOOD.replace("1060", "-1"),
        GOOD.replace("1060", "1e30"),
        GOOD.replace("1060", "99999999999999"),
        GOOD.replace('"name":"a.com",', ""),
        GOOD.replace('"name"', '"names"'),
        GOOD.replace("a.com", "\\ud800"),
        "[" * 100_000,
    ],
)
def test_corrupt(path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text(text)
    assert saved.load(path, "boot") == []
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert not path.exists()
    assert path.with_name("names.corrupt").read_text() == text


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("state") / "names"
    path.write_bytes(data)
    assert saved.load(path, "boot") == []


def test_what_cannot_be_read(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.symlink_to("/etc/hostname")
    assert saved.load(path, "boot") == []
    assert "cannot be read" in caplog.text
    path.unlink()
    path.mkdir()
    assert saved.load(path, "boot") == []


def test_boot_id() -> None:
    assert saved.boot_id() == saved.boot_id() != ""
