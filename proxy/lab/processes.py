"""Which processes belong to a lab, and how they end.

A process belongs to a lab if it is in one of the lab's network namespaces, or if it was recorded when started (pid and
start time: a pid alone may be somebody else's by now).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

RECORD = "processes"


@dataclass(frozen=True, slots=True)
class Process:
    """A process as of now; `start` tells it from a later one of the same pid."""

    pid: int
    start: int
    what: str = ""


def start_time(pid: int) -> int | None:
    """Ticks since boot; None if there is no such process, or it is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # Fields 3 (state) and 22 (starttime) of proc(5); the name before them may hold blanks and parentheses.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def record(state: Path, pid: int, what: str) -> None:
    start = start_time(pid)
    if start is not None:
        with (state / RECORD).open("a", encoding="utf-8") as lines:
            lines.write(f"{pid} {start} {what}\n")


def recorded(state: Path) -> list[Process]:
    """Those recorded that still run."""
    try:
        lines = (state / RECORD).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        pid, start, what = [*line.split(" ", 2), "", ""][:3]
        if pid.isdigit() and start.isdigit() and start_time(int(pid)) == int(start):
            found.append(Process(int(pid), int(start), what))
    return found


def netns_inodes(paths: Iterable[Path]) -> set[tuple[int, int]]:
    """Device and inode of namespaces: what they are recognised by."""
    found = set()
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue
        if status.st_dev == path.parent.stat().st_dev:
            continue  # the file was made, the namespace was not mounted on it yet
        found.add((status.st_dev, status.st_ino))
    return found


def members(namespaces: Collection[tuple[int, int]]) -> list[Process]:
    """Every process in one of the namespaces, but for ourselves and the processes we were started by."""
    if not namespaces:
        return []
    spared = _lineage()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) in spared:
            continue
        pid = int(entry.name)
        try:
            status = os.stat(f"/proc/{pid}/ns/net")
        except OSError:
            continue
        if (status.st_dev, status.st_ino) in namespaces:
            start = start_time(pid)
            if start is not None:
                found.append(Process(pid, start))
    return found


def _lineage() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


def end(processes: Iterable[Process], grace: float = 1.0) -> None:
    """SIGTERM, `grace` seconds to go by themselves, SIGKILL; returns when all are gone.

    Signals go through pidfds opened before the start time is compared, so they cannot hit a later process.
    """
    descriptors = []
    for process in processes:
        try:
            descriptor = os.pidfd_open(process.pid)
        except OSError:
            continue
        if start_time(process.pid) == process.start:
            descriptors.append(descriptor)
        else:
            os.close(descriptor)
    for signum, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
        for descriptor in descriptors:
            _send(descriptor, signum)
        descriptors = _wait(descriptors, patience)
    for descriptor in descriptors:
        os.close(descriptor)


def _send(descriptor: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(descriptor, signum)


def _wait(descriptors: list[int], patience: float) -> list[int]:
    """Those that are still there after `patience` seconds; the others are closed."""
    deadline = time.monotonic() + patience
    left = set(descriptors)
    poll = select.poll()
    for descriptor in left:
        poll.register(descriptor, select.POLLIN)  # readable: the process has ended (a zombie counts)
    while left and (remaining := deadline - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(remaining * 1000):
            poll.unregister(descriptor)
            left.discard(descriptor)
            os.close(descriptor)
    return list(left)
