"""Secrets in files and folders, as people and as Kubernetes put them there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config import codes, secrets
from config.findings import Code
from config.secrets import MAX_BYTES, Secrets, read_secrets


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def mount(folder: Path, keys: dict[str, bytes]) -> None:
    """As the kubelet mounts a Secret: keys are links into a version's folder."""
    for key, value in keys.items():
        write(folder, f"..2026_01/{key}", value)
        (folder / key).symlink_to(f"..data/{key}")
    (folder / "..data").symlink_to("..2026_01")


def faults(found: Secrets) -> list[tuple[str, str]]:
    return [(finding.code, finding.file) for finding in found.findings]


def test_files_and_mounted_secrets(tmp_path: Path) -> None:
    write(tmp_path, "shop/plain", b"a b\n")
    write(tmp_path, "shop/exact", b"a")
    write(tmp_path, "shop/.hidden", b"x\0")
    mount(tmp_path / "shop" / "one-key", {"password": b"p\n"})
    mount(tmp_path / "vault" / "keys", {"other": b"o", "token": b"t", "value": b"v"})
    mount(tmp_path / "vault" / "token", {"a": b"o", "token": b"t"})
    found = read_secrets(tmp_path)
    assert found.findings == ()
    assert found.values == {
        "shop/plain": "a b",
        "shop/exact": "a",
        "shop/one-key": "p",
        "vault/keys": "v",
        "vault/token": "t",
    }


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"a\n\n", None),
        (b"a\r\n", None),
        (b"a\nb", None),
        (b"a\0", None),
        (b"\n", None),
        (b"", None),
        (b" a", None),
        (b"a ", None),
        (b"\xc3\xa9", None),
        (b"a\x1b[0m", None),
        (b"a\tb", "a\tb"),
        (b"x" * MAX_BYTES, "x" * MAX_BYTES),
        (b"x" * (MAX_BYTES + 1), None),
    ],
)
def test_values(tmp_path: Path, data: bytes, value: str | None) -> None:
    path = write(tmp_path, "n/s", data)
    found = read_secrets(tmp_path)
    assert found.values == ({} if value is None else {"n/s": value})
    assert faults(found) == ([] if value is not None else [(codes.SECRET_VALUE.id, str(path))])


def test_a_broken_secret_does_not_hide_the_others_and_is_never_told(tmp_path: Path) -> None:
    write(tmp_path, "a/broken", b"s3cret\0")
    write(tmp_path, "b/good", b"s3cret")
    found = read_secrets(tmp_path)
    assert found.values == {"b/good": "s3cret"}
    assert len(found.findings) == 1
    assert "s3cret" not in repr(found) + "".join(map(str, found.findings))


def test_which_key_counts_must_be_clear(tmp_path: Path) -> None:
    mount(tmp_path / "n" / "two", {"a": b"1", "b": b"2"})
    (tmp_path / "n" / "none").mkdir()
    found = read_secrets(tmp_path)
    assert found.values == {}
    expected = [(codes.SECRET_KEYS.id, str(tmp_path / "n" / name)) for name in ("none", "two")]
    assert faults(found) == expected


def stray(folder: Path) -> Path:
    return write(folder, "n", b"a")


def fifo(folder: Path) -> Path:
    path = folder / "n" / "s"
    path.parent.mkdir()
    os.mkfifo(path)
    return path


def dangling(folder: Path) -> Path:
    path = folder / "n" / "s"
    path.parent.mkdir()
    path.symlink_to("nowhere")
    return path


def circle(folder: Path) -> Path:
    path = folder / "n"
    path.symlink_to("n")
    return path


def folder_as_key(folder: Path) -> Path:
    path = folder / "n" / "s" / "value"
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (stray, codes.SECRET_PLACE),
        (fifo, codes.SECRET_UNREADABLE),
        (dangling, codes.SECRET_UNREADABLE),
        (circle, codes.SECRET_UNREADABLE),
        (folder_as_key, codes.SECRET_UNREADABLE),
    ],
)
def test_what_is_no_secret(tmp_path: Path, make: Callable[[Path], Path], code: Code) -> None:
    write(tmp_path, "z/good", b"a")
    path = make(tmp_path)
    found = read_secrets(tmp_path)
    assert faults(found) == [(code.id, str(path))]
    assert found.values == {"z/good": "a"}


def test_no_such_folder(tmp_path: Path) -> None:
    found = read_secrets(tmp_path / "none")
    assert faults(found) == [(codes.SECRET_UNREADABLE.id, str(tmp_path / "none"))]


def test_the_number_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "MAX_SECRETS", 3)
    for number in range(4):
        write(tmp_path, f"n/{number}", b"a")
    assert len(read_secrets(tmp_path).values) == 3
    assert faults(read_secrets(tmp_path)) == [(codes.SECRET_MANY.id, str(tmp_path))]
    for number in range(4):
        write(tmp_path, f"n/{number}", b"")
    assert [code for code, _ in faults(read_secrets(tmp_path))] == [codes.SECRET_VALUE.id] * 3 + [codes.SECRET_MANY.id]
