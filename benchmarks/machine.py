"""What this machine is, as found when a benchmark runs, and which processor does what."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from benchmarks.failure import BenchmarkError


@dataclass(frozen=True, slots=True)
class Processors:
    """Load generator and origin share one processor, the proxy has another: the same for every subject."""

    load: int
    proxy: int

    @classmethod
    def choose(cls) -> Processors:
        """Two that are no siblings of one core if there are such two."""
        allowed = sorted(os.sched_getaffinity(0))
        first = allowed[0]
        others = [cpu for cpu in allowed if cpu != first]
        if not others:
            raise BenchmarkError("a benchmark needs two processors: one for the load, one for the proxy")
        apart = [cpu for cpu in others if cpu not in _siblings(first)]
        return cls(first, (apart or others)[0])


def _siblings(cpu: int) -> set[int]:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return {cpu}
    found: set[int] = set()
    for part in text.split(","):
        low, _, high = part.partition("-")
        found |= set(range(int(low), int(high or low) + 1))
    return found


def busy_seconds(cpu: int) -> float:
    """What one processor has worked since boot: processes, system calls, interrupts, softirqs."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _iowait, irq, softirq = map(int, ticks[:7])
            return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    raise BenchmarkError(f"/proc/stat does not know processor {cpu}")


CONGESTION = os.environ.get("BENCH_CONGESTION", "cubic")
"""Linux's own default, whatever this machine's is, at every end of every connection: pacing (bbr) is another load."""


def describe() -> list[str]:
    """Lines on cores, memory, kernel and Python."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return [
        f"{len(os.sched_getaffinity(0))} processors ({model}), {memory:.1f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, TCP congestion control {CONGESTION}",
        f"load average before the run {load:.2f}"
        + (" (others work on this machine: expect noise)" if load > 0.5 else ""),
    ]
