"""HTTP/1.1 side by side: requests per second, latency, CPU and memory of every subject in every case.

The subjects take turns: in every round each case is run on each of them, in an order that changes with the round, and
what is reported is the median of the rounds. So whatever else the machine does meanwhile meets all of them alike.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks import machine, processes
from benchmarks.failure import BenchmarkError
from benchmarks.load import Load, run_wrk
from benchmarks.machine import Processors
from benchmarks.report import Ratio, Report, Row, compare
from benchmarks.rules import READ_API
from benchmarks.subjects import Running, Subject
from benchmarks.subjects.envoy import Envoy
from benchmarks.subjects.haproxy import HAProxy
from benchmarks.subjects.none import NoProxy
from benchmarks.subjects.penstock import Penstock
from benchmarks.topology import only_one, topology

NAME = "http1"
SUBJECTS: tuple[Subject, ...] = (NoProxy(), Penstock(), Envoy(), HAProxy())
PEERS = ("envoy", "haproxy", "none")
CASES: Mapping[str, Load] = {
    "keep-alive-1": Load("/api/v1/items", 1),
    "keep-alive-8": Load("/api/v1/items", 8),
    "keep-alive-64": Load("/api/v1/items", 64),
    "distinct-64": Load("/api/v1/items", 64, distinct=True),
    "denied-64": Load("/private", 64, refused=True),
    "body-1mib-8": Load("/api/large", 8),
}
ROUNDS, SECONDS = 3, 2
QUICK_ROUNDS, QUICK_SECONDS = 1, 1
STEADY = 0.7
NOTES = (
    "Medians of the rounds; min and max: the slowest and the fastest round; peak rss: the largest of all rounds.",
    "CPU is user + system time of the proxy with all it started; softirq work is charged to whoever it interrupts.",
    "busy: how much of each processor was in use by anybody, softirqs and all. Where `proxy busy` is well below 100 %",
    "and `load busy` is not, wrk and the origin were the limit; then compare the CPU per request, not the rates.",
    "`none` uses the load's processor only, and at one connection it never has to wake another one up.",
    "Ratios are Penstock's figure divided by the peer's: above 1 is better for rps, below 1 for p50, p99 and cpu.",
    "Envoy and HAProxy run as ordinary reverse proxies, addressed as such; Penstock intercepts and keeps addresses.",
)
RATIOS = (
    Ratio("requests_per_s", "rps"),
    Ratio("p50_us", "p50"),
    Ratio("p99_us", "p99"),
    Ratio("cpu_us_per_request", "cpu"),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What one subject did in one case of one round."""

    requests_per_s: float
    p50_us: float
    p99_us: float
    proxy_busy_percent: float
    load_busy_percent: float
    cpu_us_per_request: float | None
    peak_rss_mib: float | None


def run(quick: bool) -> Report:
    """Measure everything. Whatever happens, nothing is left running."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    _check_tools()
    processors = Processors.choose()
    _introduce(processors, rounds, seconds)
    takes_part = {case: [s.name for s in SUBJECTS if s.judges or not load.refused] for case, load in CASES.items()}
    samples: dict[tuple[str, str], list[Sample]] = {}
    with ExitStack() as stack:
        stack.enter_context(only_one())
        plain = stack.enter_context(topology(NAME, processors))
        running = {subject.name: subject.start(plain, READ_API, plain.folder, stack) for subject in SUBJECTS}
        for number in range(rounds):
            names = [subject.name for subject in SUBJECTS]
            names = names[number % len(names) :] + names[: number % len(names)]
            for case, load in CASES.items():
                _progress(f"round {number + 1} of {rounds}: {case}")
                for name in names:
                    if name in takes_part[case]:
                        samples.setdefault((case, name), []).append(_sample(running[name], load, seconds))
        _progress("")
    rows = [_row(name, case, samples[case, name]) for case, names in takes_part.items() for name in names]
    return Report(NAME, rows, compare(rows, "penstock", PEERS, RATIOS), (*_doubts(rows), *NOTES))


def _sample(running: Running, load: Load, seconds: int) -> Sample:
    processors = running.place.processors
    pids = processes.tree(running.pid) if running.pid is not None else []
    processes.reset_peak_memory(pids)
    both = (processors.proxy, processors.load)
    used, busy, start = processes.cpu_seconds(pids), [machine.busy_seconds(cpu) for cpu in both], time.monotonic()
    measured = run_wrk(running.place, running.host, running.port, load, seconds)
    elapsed = time.monotonic() - start
    used = processes.cpu_seconds(pids) - used
    proxy_busy, load_busy = (
        100 * (machine.busy_seconds(cpu) - before) / elapsed for cpu, before in zip(both, busy, strict=True)
    )
    return Sample(
        requests_per_s=measured.requests / measured.seconds,
        p50_us=measured.p50_us,
        p99_us=measured.p99_us,
        proxy_busy_percent=proxy_busy,
        load_busy_percent=load_busy,
        cpu_us_per_request=1e6 * used / measured.requests if pids else None,
        peak_rss_mib=processes.peak_memory_mib(pids) if pids else None,
    )


def _row(subject: str, case: str, samples: Sequence[Sample]) -> Row:
    rates = [sample.requests_per_s for sample in samples]
    metrics = {
        "requests_per_s": median(rates),
        "min_per_s": min(rates),
        "max_per_s": max(rates),
        "p50_us": median(sample.p50_us for sample in samples),
        "p99_us": median(sample.p99_us for sample in samples),
        "proxy_busy_percent": median(sample.proxy_busy_percent for sample in samples),
        "load_busy_percent": median(sample.load_busy_percent for sample in samples),
    }
    used = [sample.cpu_us_per_request for sample in samples if sample.cpu_us_per_request is not None]
    memory = [sample.peak_rss_mib for sample in samples if sample.peak_rss_mib is not None]
    if used and memory:
        metrics |= {"cpu_us_per_request": median(used), "peak_rss_mib": max(memory)}
    return Row(subject, case, metrics)


def _doubts(rows: Sequence[Row]) -> list[str]:
    """Rounds that differ a lot were not about the subjects."""
    unsteady = [row for row in rows if row.metrics["min_per_s"] < STEADY * row.metrics["max_per_s"]]
    if not unsteady:
        return []
    return [
        f"NOT STEADY: in {len(unsteady)} of {len(rows)} rows the slowest round has less than {STEADY:.0%} of the",
        "fastest one's rate. Something else was running; measure again.",
    ]


def _check_tools() -> None:
    for program in ("wrk", "taskset", "clang"):
        if shutil.which(program) is None:
            raise BenchmarkError(f"{program} is not installed: `make bench` does that")


def _introduce(processors: Processors, rounds: int, seconds: int) -> None:
    """Say what is measured, where and how, before the first figure."""
    lines = machine.describe()
    lines.append(
        f"processor {processors.load}: wrk and the origin; processor {processors.proxy}: the proxy, the same for all"
    )
    lines.append(f"{rounds} round(s) of {seconds} s per case and subject, subjects in turn")
    lines.append(
        "policy: " + ", ".join(f"{rule.method} {rule.path}" for rule in READ_API) + " from the client, else 403"
    )
    lines += [f"{subject.name}: {subject.about()}" for subject in SUBJECTS]
    print("\n".join(f"  {line}" for line in lines) + "\n", flush=True)


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(f"  {text}", file=sys.stderr, flush=True)
