"""One agent per state folder: a lock that the kernel releases when the process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class AlreadyRunningError(Exception):
    """Another agent holds the lock; `pid` is 0 if it did not say."""

    def __init__(self, path: Path, pid: int) -> None:
        who = f"by process {pid}" if pid else "already"
        super().__init__(f"{path.parent} is in use {who}: one agent per state folder (see --state-dir)")
        self.pid = pid


def acquire(path: Path) -> int:
    """Take the lock file and write our pid into it. Returns its descriptor, which must stay open."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 32).decode(errors="replace").strip()
        os.close(fd)
        raise AlreadyRunningError(path, int(text) if text.isdigit() else 0) from None
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return fd
