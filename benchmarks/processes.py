"""CPU time and memory of a process and everything that it started, from /proc."""

from __future__ import annotations

import os
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_RESET_PEAK = "5"
"""What /proc/PID/clear_refs takes to set VmHWM back to the present size (proc(5))."""


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; None when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def tree(root: int) -> list[int]:
    """`root` and its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(pids: list[int]) -> float:
    """User and system time. Softirq work is charged to whoever it interrupts, so it is only partly in here."""
    fields = [stat for pid in pids if (stat := _stat(pid)) is not None]
    return sum(int(stat[11]) + int(stat[12]) for stat in fields) * _TICK_S


def reset_peak_memory(pids: list[int]) -> None:
    for pid in pids:
        Path(f"/proc/{pid}/clear_refs").write_text(_RESET_PEAK, encoding="ascii")


def peak_memory_mib(pids: list[int]) -> float:
    """Sum of the largest resident sizes; pages that processes share count for each of them."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1])
    return total / 1024


def pin(pids: list[int], cpu: int) -> None:
    """Keep every thread of the processes on one processor; what they start later inherits that."""
    for pid in pids:
        for thread in os.scandir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread.name), {cpu})


def resident_mib(pids: list[int]) -> float:
    """What of them is in memory now, shared pages included."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
