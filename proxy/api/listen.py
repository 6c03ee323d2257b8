"""The API's Unix socket as a file: who may reach it, and what may be in its place.

A socket that another agent serves is left alone, one that nobody serves is replaced; anything else at that path, or
a directory that others may write to, is refused (compare CVE-2022-29178: an agent's socket that was open to all).
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import Final

MODE: Final = 0o660
_DIRECTORY_MODE: Final = 0o755
_BACKLOG: Final = 128


class ListenError(Exception):
    """The socket cannot be served; the text says where, why, and what to do."""


def bind(path: Path, group: int | None = None) -> socket.socket:
    """A listening, non-blocking socket at `path`, readable by owner and group."""
    _prepare_directory(path.parent)
    _clear(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # The mode is set by umask, since between bind and chmod anybody could connect.
    umask = os.umask(0o777 & ~MODE)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise ListenError(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(umask)
    if group is not None:
        os.chown(path, -1, group)
    listener.listen(_BACKLOG)
    return listener


def remove(path: Path, inode: int) -> None:
    """Unlinks `path` if it still is the socket that was bound: an agent that took over has its own there."""
    with contextlib.suppress(FileNotFoundError):
        if os.lstat(path).st_ino == inode:
            path.unlink()


def _prepare_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        status = directory.stat()
    except OSError as error:
        raise ListenError(f"cannot make the state directory {directory}: {error.strerror or error}") from None
    if status.st_uid not in (0, os.geteuid()):
        raise ListenError(
            f"{directory} belongs to user {status.st_uid}: whoever owns it could replace the API's socket"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(status.st_mode)
        raise ListenError(
            f"{directory} has mode {mode:04o}: others could replace the API's socket; use a directory of its own, "
            "writable by its owner only (--state-dir)"
        )


def _clear(path: Path) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{path} exists and is no socket: remove it, or choose another --state-dir")
    if is_served(path):
        raise ListenError(f"another agent serves {path}: stop it first, or choose another --state-dir")
    path.unlink(missing_ok=True)


def is_served(path: Path) -> bool:
    """Whether somebody accepts connections at `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            return True  # its backlog is full, so it has an owner
        except OSError:
            return False
        return True
