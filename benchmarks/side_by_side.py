"""Proxies side by side: requests per second, latency, CPU and memory of every subject in every case.

The subjects take turns: in every round each case is run on each of them, in an order that changes with the round, and
what is reported is the median of the rounds. So whatever else the machine does meanwhile meets all of them alike.

A case names the policy it is about. The cases of one policy are measured together, by instances of their own, which
are gone when the next policy's turn comes: nothing runs but what is measured.
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
from benchmarks.load import Load
from benchmarks.machine import Processors
from benchmarks.report import Ratio, Report, Row, compare
from benchmarks.rules import Rules
from benchmarks.steadiness import doubts
from benchmarks.subjects import Running, Subject
from benchmarks.topology import Origin, only_one, topology

SUBJECT = "penstock"
PEERS = ("envoy", "haproxy", "none")
ROUNDS, SECONDS = 3, 2
QUICK_ROUNDS, QUICK_SECONDS = 1, 1
MANY_RULES = 3
NOTES = (
    "Medians of the rounds; min and max: the slowest and the fastest round; peak rss: the largest of all rounds.",
    "worker rss is the part of the one process that carries the requests; the peers have no other.",
    "CPU is user + system time of the proxy with all it started; softirq work is charged to whoever it interrupts.",
    "busy: how much of each processor was in use by anybody, softirqs and all. Where `proxy busy` is well below 100 %",
    "and `load busy` is not, load and origin were the limit; then compare the CPU per request, not the rates.",
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
class Case:
    """A load, and the policy that the subjects enforce meanwhile."""

    load: Load
    rules: Rules


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`tools`: programs that have to be installed, the load generator first. `notes`: how to read the figures."""

    name: str
    subjects: Sequence[Subject]
    cases: Mapping[str, Case]
    origin: Origin
    tools: Sequence[str]
    notes: Sequence[str] = ()


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
    worker_rss_mib: float | None


Samples = dict[tuple[str, str], list[Sample]]
"""By case and subject."""


def measure(benchmark: Benchmark, quick: bool) -> Report:
    """Measure everything. Whatever happens, nothing is left running."""
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    _check_tools(benchmark.tools)
    processors = Processors.choose()
    _introduce(benchmark, processors, rounds, seconds)
    samples: Samples = {}
    with only_one():
        for rules, cases in _by_rules(benchmark.cases).items():
            with ExitStack() as stack:
                plain = stack.enter_context(topology(benchmark.name, processors, origin=benchmark.origin))
                running = [
                    (subject, subject.start(plain, rules, plain.folder, stack)) for subject in benchmark.subjects
                ]
                _take_turns(running, {name: benchmark.cases[name].load for name in cases}, rounds, seconds, samples)
    _progress("")
    names = [subject.name for subject in benchmark.subjects]
    measured = [(case, name) for case in benchmark.cases for name in names if (case, name) in samples]
    rows = [_row(name, case, samples[case, name]) for case, name in measured]
    notes = (*doubts(rows), *NOTES, *benchmark.notes)
    return Report(benchmark.name, rows, compare(rows, SUBJECT, PEERS, RATIOS), notes)


def _by_rules(cases: Mapping[str, Case]) -> dict[Rules, list[str]]:
    """The names of the cases that each policy has."""
    found: dict[Rules, list[str]] = {}
    for name, case in cases.items():
        found.setdefault(case.rules, []).append(name)
    return found


def _take_turns(
    running: Sequence[tuple[Subject, Running]], loads: Mapping[str, Load], rounds: int, seconds: int, samples: Samples
) -> None:
    for number in range(rounds):
        first = number % len(running)
        for case, load in loads.items():
            _progress(f"round {number + 1} of {rounds}: {case}")
            for subject, instance in [*running[first:], *running[:first]]:
                if subject.judges or not load.refused:
                    try:
                        sample = _sample(instance, load, seconds)
                    except BenchmarkError as error:
                        raise BenchmarkError(f"{subject.name}, {case}: {error}") from error
                    samples.setdefault((case, subject.name), []).append(sample)


def _sample(running: Running, load: Load, seconds: int) -> Sample:
    processors = running.place.processors
    pids = processes.tree(running.pid) if running.pid is not None else []
    processes.reset_peak_memory(pids)
    both = (processors.proxy, processors.load)
    used, busy, start = processes.cpu_seconds(pids), [machine.busy_seconds(cpu) for cpu in both], time.monotonic()
    printed = load.run(running.place, running.host, running.port, seconds)
    elapsed = time.monotonic() - start
    used = processes.cpu_seconds(pids) - used
    proxy_busy, load_busy = (
        100 * (machine.busy_seconds(cpu) - before) / elapsed for cpu, before in zip(both, busy, strict=True)
    )
    memory = processes.peak_memory_mib(pids) if pids else None
    worker_memory = processes.peak_memory_mib([running.worker]) if running.worker is not None else None
    measured = load.figures(running.place, printed, seconds)
    return Sample(
        requests_per_s=measured.requests / measured.seconds,
        p50_us=measured.p50_us,
        p99_us=measured.p99_us,
        proxy_busy_percent=proxy_busy,
        load_busy_percent=load_busy,
        cpu_us_per_request=1e6 * used / measured.requests if pids else None,
        peak_rss_mib=memory,
        worker_rss_mib=worker_memory,
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
    of_worker = [sample.worker_rss_mib for sample in samples if sample.worker_rss_mib is not None]
    if used and memory and of_worker:
        metrics |= {
            "cpu_us_per_request": median(used),
            "peak_rss_mib": max(memory),
            "worker_rss_mib": max(of_worker),
        }
    return Row(subject, case, metrics)


def _check_tools(tools: Sequence[str]) -> None:
    for program in (*tools, "taskset", "clang"):
        if shutil.which(program) is None:
            raise BenchmarkError(f"{program} is not installed: `make bench` does that")


def _introduce(benchmark: Benchmark, processors: Processors, rounds: int, seconds: int) -> None:
    """Say what is measured, where and how, before the first figure."""
    lines = machine.describe()
    lines.append(
        f"processor {processors.load}: {benchmark.tools[0]} and the origin; processor {processors.proxy}: the proxy, "
        "the same for all"
    )
    lines.append(f"{rounds} round(s) of {seconds} s per case and subject, subjects in turn")
    for rules, cases in _by_rules(benchmark.cases).items():
        lines.append(f"policy: {_described(rules)} from the client, else 403 ({', '.join(cases)})")
    lines += [f"{subject.name}: {subject.about()}" for subject in benchmark.subjects]
    print("\n".join(f"  {line}" for line in lines) + "\n", flush=True)


def _described(rules: Rules) -> str:
    texts = [f"{rule.method} {rule.path}" for rule in rules]
    if len(texts) <= MANY_RULES:
        return ", ".join(texts)
    return f"{len(texts)} rules, {texts[0]} to {texts[-1]},"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(f"  {text}", file=sys.stderr, flush=True)
