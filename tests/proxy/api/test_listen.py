"""The socket as a file: what is replaced, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.api.listen import ListenError, bind, is_served, remove


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "penstock.sock"


def test_a_stale_socket_is_replaced(path: Path) -> None:
    bind(path).close()
    assert path.exists()
    assert not is_served(path)
    with bind(path):
        assert is_served(path)


def test_a_served_socket_is_left_alone(path: Path) -> None:
    with bind(path):
        with pytest.raises(ListenError, match="another agent serves"):
            bind(path)
        assert is_served(path)


def test_mode_and_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        with bind(path):
            assert stat.S_IMODE(path.lstat().st_mode) == 0o660
        assert os.umask(0) == 0
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_anything_else_is_refused_and_kept(path: Path, tmp_path: Path, kind: str) -> None:
    path.parent.mkdir()
    target = tmp_path / "victim"
    with socket.socket(socket.AF_UNIX) as victim:
        victim.bind(str(target))
        match kind:
            case "file":
                path.touch()
            case "directory":
                path.mkdir()
            case _:
                path.symlink_to(target)
        with pytest.raises(ListenError, match="is no socket"):
            bind(path)
    assert os.path.lexists(path)
    assert target.exists()


def test_a_directory_that_others_may_write_to_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(ListenError, match="mode 0777"):
        bind(path)
    path.parent.chmod(0o1777)
    with pytest.raises(ListenError, match="mode 1777"):
        bind(path)


def test_a_directory_of_another_user_is_refused(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    path.parent.mkdir()
    os.chown(path.parent, 65534, 65534)
    with pytest.raises(ListenError, match="belongs to user 65534"):
        bind(path)


def test_a_path_that_is_too_long_says_so(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="cannot listen on"):
        bind(tmp_path / ("x" * 120) / "penstock.sock")


def test_only_the_own_socket_is_removed(path: Path) -> None:
    bind(path).close()
    inode = path.lstat().st_ino
    remove(path, inode + 1)
    assert path.exists()
    remove(path, inode)
    assert not path.exists()
    remove(path, inode)
