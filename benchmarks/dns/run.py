"""Subjects in turn: in every round each case is run on each of them, in an order that changes with the round.

What has no Penstock in its way has a place without its programs, as the peers of the HTTP benchmarks.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import machine, processes
from benchmarks.dns import dnsdist, dnsperf, server, subjects
from benchmarks.dns.names import COUNT, FORBIDDEN, write_questions
from benchmarks.dns.subjects import DIRECT, DNSDIST, HOT, PORTS, WAYS, Way
from benchmarks.failure import BenchmarkError
from benchmarks.machine import Processors
from benchmarks.report import Ratio, Report, Row, compare
from benchmarks.steadiness import doubts
from benchmarks.topology import Topology, only_one, topology

NAME = "dns"
ROUNDS, SECONDS = 3, 2
QUICK_ROUNDS, QUICK_SECONDS = 1, 1
LOW_RATE = 2_000
"""Questions per second at which nobody is busy."""
SETTINGS = {"workers": 1, "dns-max-names": 4 * COUNT, "dns-max-addresses": 16 * COUNT}
"""By default no pod knows so many names, or opens so many addresses in a second."""
RATIOS = (
    Ratio("queries_per_s", "qps"),
    Ratio("p50_us", "p50"),
    Ratio("p99_us", "p99"),
    Ratio("worker_cpu_us_per_request", "cpu"),
)
NOTES = (
    "Medians of the rounds; min and max: the slowest and the fastest round.",
    f"hot: {HOT} names (or one) again and again; distinct: {COUNT:,} names in turn.",
    f"-{LOW_RATE}: so many questions per second, where latency is the way's; elsewhere {dnsperf.OUTSTANDING} questions",
    "are always unanswered, and latency is mostly waiting in line. added: what is more than direct's in the same case.",
    f"lost: questions of all rounds that were not answered within {dnsperf.TIMEOUT_S} s.",
    "CPU is user + system time by question, for dnsdist of its one process; the agent's is for flow records and names.",
    "busy: how much of each processor was in use by anybody. Where `proxy busy` is well below 100 % and `load busy` is",
    "not, dnsperf and the server were the limit; then compare the CPU per question, not the rates.",
    "dnsdist is addressed by the client and asks with its own address; Penstock intercepts, keeps the client's",
    "address, makes a flow record of every question, and reads the answers.",
    "Ratios are the first's figure divided by the second's: above 1 is better for qps, below 1 for p50, p99 and cpu.",
)


@dataclass(frozen=True, slots=True)
class Case:
    """At `rate` questions per second, or as many as are answered."""

    distinct: bool
    rate: int | None

    def names(self, way: Way) -> Sequence[str]:
        return way.distinct if self.distinct else way.hot


CASES = {
    "hot": Case(False, None),
    f"hot-{LOW_RATE}": Case(False, LOW_RATE),
    "distinct": Case(True, None),
    f"distinct-{LOW_RATE}": Case(True, LOW_RATE),
}


@dataclass(frozen=True, slots=True)
class Running:
    """Whom the client asks, and the processes to watch, if there are any in between."""

    place: Topology
    host: str
    port: int
    worker: int | None = None
    agent: int | None = None

    def cpu_seconds(self) -> tuple[float, float]:
        """Of the worker, and of the agent without it."""
        worker = processes.cpu_seconds([self.worker]) if self.worker is not None else 0.0
        both = processes.cpu_seconds(processes.tree(self.agent)) if self.agent is not None else worker
        return worker, both - worker


@dataclass(frozen=True, slots=True)
class Sample:
    """What came of one case on one way in one round. CPU in seconds."""

    measured: dnsperf.Measured
    worker_cpu: float
    agent_cpu: float
    proxy_busy_percent: float
    load_busy_percent: float


Samples = dict[tuple[str, str], list[Sample]]
"""By case and way."""


def run(quick: bool) -> Report:
    return measure(quick, WAYS)


def measure(quick: bool, compared: Sequence[Way]) -> Report:
    rounds, seconds = (QUICK_ROUNDS, QUICK_SECONDS) if quick else (ROUNDS, SECONDS)
    for program in (dnsperf.PROGRAM, dnsdist.PROGRAM, server.PROGRAM):
        if shutil.which(program) is None:
            raise BenchmarkError(f"{program} is not installed: `make bench` does that")
    processors = Processors.choose()
    _introduce(processors, rounds, seconds)
    samples: Samples = {}
    with only_one(), ExitStack() as stack:
        running = _start(compared, processors, stack)
        for way, instance in running:
            _check_refusal(way, instance)
        for number in range(rounds):
            first = number % len(running)
            for name, case in CASES.items():
                print(f"  round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                for way, instance in [*running[first:], *running[:first]]:
                    if case.names(way):
                        samples.setdefault((name, way.name), []).append(_sample(name, case, way, instance, seconds))
    measured = [(case, way.name) for case in CASES for way in compared if (case, way.name) in samples]
    rows = _with_added([_row(name, case, samples[case, name]) for case, name in measured])
    return Report(NAME, rows, _ratios(rows), (*doubts(rows), *NOTES))


def _start(compared: Sequence[Way], processors: Processors, stack: ExitStack) -> list[tuple[Way, Running]]:
    plain = stack.enter_context(topology(NAME, processors))
    server.serve(plain, PORTS)
    found = {}
    for way in compared:
        if not way.penstock:
            found[way.name] = Running(plain, plain.server_address, way.port)
    if DNSDIST in compared:
        pid = dnsdist.serve(plain, DNSDIST.port, DNSDIST.names)
        found[DNSDIST.name] = Running(plain, plain.node_address, dnsdist.LISTEN, pid)
    ours = [way for way in compared if way.penstock]
    if ours:
        place, worker, agent = _penstock(processors, stack)
        for way in ours:
            found[way.name] = Running(place, place.server_address, way.port, worker, agent)
    return [(way, found[way.name]) for way in compared]


def _penstock(processors: Processors, stack: ExitStack) -> tuple[Topology, int, int]:
    """The place, its worker and its agent."""
    policies = Path(stack.enter_context(TemporaryDirectory(prefix="penstock-bench-")))
    (policies / "client.yaml").write_text(json.dumps(subjects.policy()), encoding="utf-8")
    place = stack.enter_context(topology(f"{NAME}-own", processors, policies, SETTINGS))
    server.serve(place, PORTS)
    agent = place.lab.agent_pid
    if agent is None:
        raise BenchmarkError("penstock has ended")
    [worker] = (int(found["pid"]) for found in place.lab.agent.status()["proxy"]["workers"])
    processes.pin(processes.tree(agent), processors.proxy)
    return place, worker, agent


def _questions(running: Running, names: Sequence[str]) -> Path:
    path = running.place.folder / "questions"
    write_questions(path, names)
    return path


def _check_refusal(way: Way, running: Running) -> None:
    """Where there are rules, a name that is none of theirs is refused."""
    wanted = "NOERROR" if way is DIRECT else "REFUSED"
    questions = _questions(running, [FORBIDDEN])
    found = dnsperf.codes(dnsperf.ask(running.place, running.host, running.port, questions, "-n", "1"))
    if found != {wanted: 1}:
        raise BenchmarkError(f"{way.name}: {FORBIDDEN} was answered with {dict(found) or 'nothing'}, not {wanted}")


def _sample(name: str, case: Case, way: Way, running: Running, seconds: int) -> Sample:
    place = running.place
    questions, options = _questions(running, case.names(way)), dnsperf.load(seconds, case.rate)
    both = (place.processors.proxy, place.processors.load)
    used, busy, start = running.cpu_seconds(), [machine.busy_seconds(cpu) for cpu in both], time.monotonic()
    printed = dnsperf.ask(place, running.host, running.port, questions, *options, patience_s=seconds)
    elapsed = time.monotonic() - start
    proxy_busy, load_busy = (
        100 * (machine.busy_seconds(cpu) - before) / elapsed for cpu, before in zip(both, busy, strict=True)
    )
    worker, agent = (now - before for now, before in zip(running.cpu_seconds(), used, strict=True))
    try:
        return Sample(dnsperf.figures(printed), worker, agent, proxy_busy, load_busy)
    except BenchmarkError as error:
        raise BenchmarkError(f"{name}, {way.name}: {error}") from error


def _row(name: str, case: str, samples: Sequence[Sample]) -> Row:
    found = [sample.measured for sample in samples]
    rates = [one.answered / one.seconds for one in found]
    metrics = {
        "queries_per_s": median(rates),
        "min_per_s": min(rates),
        "max_per_s": max(rates),
        "p50_us": median(one.p50_us for one in found),
        "p99_us": median(one.p99_us for one in found),
        "lost_count": sum(one.lost for one in found),
    }
    for key in ("worker_cpu", "agent_cpu"):
        used = median(getattr(sample, key) / sample.measured.answered for sample in samples)
        metrics |= {f"{key}_us_per_request": 1e6 * used} if used else {}
    if CASES[case].rate is None:  # the kernel counts short bursts of work badly
        for key in ("proxy_busy_percent", "load_busy_percent"):
            metrics[key] = median(getattr(sample, key) for sample in samples)
    return Row(name, case, metrics)


def _with_added(rows: Sequence[Row]) -> list[Row]:
    """With what each way adds to the direct one's latencies."""
    direct = {row.case: row.metrics for row in rows if row.subject == DIRECT.name}
    return [_added(row, direct[row.case]) if row.subject != DIRECT.name and row.case in direct else row for row in rows]


def _added(row: Row, direct: Mapping[str, float]) -> Row:
    added = {f"added_{key}": row.metrics[key] - direct[key] for key in ("p50_us", "p99_us")}
    return Row(row.subject, row.case, {**row.metrics, **added})


def _ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Case by case: everybody by direct, and Penstock's by dnsdist."""
    found: dict[str, float] = {}
    for case in CASES:
        of_case = [row for row in rows if row.case == case]
        for way in WAYS:
            peers = [DIRECT.name, *([DNSDIST.name] if way.penstock else [])]
            found |= compare(of_case, way.name, peers, RATIOS) if way is not DIRECT else {}
    return found


def _introduce(processors: Processors, rounds: int, seconds: int) -> None:
    lines = [
        *machine.describe(),
        f"processor {processors.load}: dnsperf and Knot DNS; processor {processors.proxy}: the proxy, the same for all",
        f"{rounds} round(s) of {seconds} s per case and subject, subjects in turn; {dnsperf.CLIENTS} clients",
        f"dnsdist {dnsdist.version()}: on the node, addressed by the client, a list of {len(DNSDIST.names):,} names",
        f"penstock {version('penstock')}, one worker and its agent: transparent, every question a flow record",
        *(f"{way.name}: {len(way.names):,} DNS rules (matchName)" for way in WAYS if way.penstock),
    ]
    print("\n".join(f"  {line}" for line in lines) + "\n", flush=True)
