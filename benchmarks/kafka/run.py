"""Modes in turn: in every round each case is run in each mode, in an order that changes with the round.

All modes share one broker, one agent and one worker, so nothing differs but the way between client and broker.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks import machine, processes
from benchmarks.failure import BenchmarkError
from benchmarks.kafka import java, modes
from benchmarks.kafka.broker import PARTITIONS, broker
from benchmarks.kafka.loads import JavaConsume, JavaProduce, JavaSync, Librdkafka, Load, Work, librdkafka_version
from benchmarks.kafka.modes import DIRECT, FORBIDDEN, KIB, LARGE, MODES, PRODUCED, Mode, filled
from benchmarks.machine import Processors
from benchmarks.report import Ratio, Report, Row, compare
from benchmarks.steadiness import doubts
from benchmarks.topology import CLIENT, Topology, only_one, topology

NAME = "kafka"
ROUNDS, QUICK_ROUNDS = 5, 1
SMALL_COUNT, LARGE_COUNT, SYNC_COUNT = 400_000, 6_000, 5_000
CONSUMED_TIMES = 4
"""So many times as much is consumed as produced: it is quick, and half a second would measure how it begins."""
QUICK = 0.25
"""How much of that."""
PATIENCE_S = 120.0
REFUSED = "Topic authorization failed"
MIB = 2**20
RATIOS = (
    Ratio("records_per_s", "records"),
    Ratio("p50_us", "p50"),
    Ratio("p99_us", "p99"),
    Ratio("broker_cpu_per_mib_us", "broker-cpu"),
)
NOTES = (
    "Medians of the rounds; min and max: the slowest and the fastest round. One broker, one agent, one worker for all",
    "modes; `direct` is a port without L7 rules, which the proxy sees nothing of.",
    "p50, p99: from handing a record over to its being acknowledged. Where producing as fast as it goes that is mostly",
    "waiting in the client's queue (32 MiB); -sync has one record in flight. Java's perf tool knows whole ms only.",
    "cpu: user + system time of the process by the records that went there or back, or by their MiB. Flow records are",
    "the agent's work, and it has some without them: a slow case has more of that per record.",
    "load busy: client and broker share that processor. Where it is near 100 % they are the limit, not the proxy.",
    "Broker and Java's clients run without the JVM's optimising compiler, which would compete with them (C1 only).",
    "Ratios are the mode's figure divided by direct's of the same round, the median of the rounds: above 1 is better",
    "for records, below 1 for the others.",
)


@dataclass(frozen=True, slots=True)
class Case:
    load: Load
    work: Work


def _cases(share: float) -> dict[str, Case]:
    counts = {KIB: int(SMALL_COUNT * share), LARGE: int(LARGE_COUNT * share)}
    sync = Work(PRODUCED, int(SYNC_COUNT * share), KIB)
    found: dict[str, Case] = {}
    loads: tuple[tuple[str, Load, Load, Load], ...] = (
        ("rd", Librdkafka("produce"), Librdkafka("consume"), Librdkafka("sync")),
        ("java", JavaProduce(), JavaConsume(), JavaSync()),
    )
    for name, produce, consume, one_by_one in loads:
        for label, size in (("1k", KIB), ("100k", LARGE)):
            found[f"{name}-produce-{label}"] = Case(produce, Work(PRODUCED, counts[size], size))
        for label, size in (("1k", KIB), ("100k", LARGE)):
            found[f"{name}-consume-{label}"] = Case(consume, Work(filled(size), CONSUMED_TIMES * counts[size], size))
        found[f"{name}-sync-1k"] = Case(one_by_one, sync)
    return found


@dataclass(frozen=True, slots=True)
class Sample:
    """What came of one case in one mode and round. CPU in seconds."""

    records_per_s: float
    total: int
    p50_us: float | None
    p99_us: float | None
    worker_cpu: float
    agent_cpu: float
    broker_cpu: float
    proxy_busy_percent: float
    load_busy_percent: float


Samples = dict[tuple[str, str], list[Sample]]
"""By case and mode."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where it runs, and whom to watch."""

    topology: Topology
    worker: int
    agent: int
    broker: int

    def cpu_seconds(self) -> tuple[float, float, float]:
        """Of worker, agent and broker."""
        worker = processes.cpu_seconds([self.worker])
        return worker, processes.cpu_seconds(processes.tree(self.agent)) - worker, processes.cpu_seconds([self.broker])

    def bootstrap(self, mode: Mode) -> str:
        return f"{self.topology.server_address}:{mode.port}"

    def client(self, argv: Sequence[str]) -> str:
        return self.topology.run(CLIENT, argv, self.topology.processors.load, PATIENCE_S)


def run(quick: bool) -> Report:
    return measure(quick, MODES)


def measure(quick: bool, compared: tuple[Mode, ...]) -> Report:
    java.check()
    rounds, share = (QUICK_ROUNDS, QUICK) if quick else (ROUNDS, 1.0)
    cases = _cases(share)
    processors = Processors.choose()
    _introduce(processors, rounds, cases, compared)
    samples: Samples = {}
    with only_one(), _up(processors, compared) as place:
        _prepare(place, cases)
        _check_refusals(place, compared)
        for number in range(rounds):
            order = _rotated(compared, number)
            for name, case in cases.items():
                print(f"  round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                for mode in order:
                    samples.setdefault((name, mode.name), []).append(_sample(place, name, case, mode))
    rows = [_row(name, mode, cases[name], samples[name, mode.name]) for name in cases for mode in compared]
    return Report(NAME, rows, _ratios(samples, cases, compared), (*doubts(rows), *NOTES))


def _rotated(compared: Sequence[Mode], number: int) -> list[Mode]:
    first = number % len(compared)
    return [*compared[first:], *compared[:first]]


@contextmanager
def _up(processors: Processors, compared: tuple[Mode, ...]) -> Iterator[Place]:
    with TemporaryDirectory(prefix="penstock-bench-") as folder:
        policies = Path(folder)
        text = json.dumps(modes.policy(compared))
        (policies / "server.yaml").write_text(text, encoding="utf-8")
        with topology(NAME, processors, policies, {"workers": 1}) as place:
            agent = place.lab.agent_pid
            if agent is None:
                raise BenchmarkError("penstock has ended")
            [worker] = (int(found["pid"]) for found in place.lab.agent.status()["proxy"]["workers"])
            processes.pin(processes.tree(agent), processors.proxy)
            with broker(place, compared) as pid:
                yield Place(place, worker, agent, pid)


def _prepare(place: Place, cases: Mapping[str, Case]) -> None:
    """Topics, something to consume, and a broker that is warm."""
    print("  filling topics, warming up the broker", file=sys.stderr, flush=True)
    for work in {case.work.topic: case.work for case in cases.values()}.values():
        _create(place, work.topic)
        place.client(Librdkafka("produce").command(place.bootstrap(DIRECT), work))
    for case in cases.values():
        if isinstance(case.load, Librdkafka):
            place.client(case.load.command(place.bootstrap(DIRECT), case.work))


def _check_refusals(place: Place, compared: Sequence[Mode]) -> None:
    """Where there are rules, a record for a topic that they do not name is refused."""
    _create(place, FORBIDDEN)
    command = Librdkafka("sync").command
    place.client(command(place.bootstrap(DIRECT), Work(FORBIDDEN, 1, KIB)))
    for mode in compared:
        if not mode.rules:
            continue
        try:
            place.client(command(place.bootstrap(mode), Work(FORBIDDEN, 1, KIB)))
        except BenchmarkError as error:
            if REFUSED not in str(error):
                raise
        else:
            raise BenchmarkError(f"{mode.name}: a record for a topic that no rule permits came through")


def _create(place: Place, topic: str) -> None:
    """What is there to be consumed is kept."""
    kept = ["--config", "retention.bytes=-1"] if topic.startswith("filled-") else []
    arguments = ["--bootstrap-server", place.bootstrap(DIRECT), "--create", "--topic", topic]
    arguments += ["--partitions", str(PARTITIONS), *kept]
    place.client(java.command("org.apache.kafka.tools.TopicCommand", arguments))


def _sample(place: Place, name: str, case: Case, mode: Mode) -> Sample:
    processors = place.topology.processors
    both = (processors.proxy, processors.load)
    command = case.load.command(place.bootstrap(mode), case.work)
    used, busy, start = place.cpu_seconds(), [machine.busy_seconds(cpu) for cpu in both], time.monotonic()
    try:
        printed = place.client(command)
        elapsed = time.monotonic() - start
        found = case.load.figures(printed, case.work)
    except BenchmarkError as error:
        raise BenchmarkError(f"{name}, {mode.name}: {error}") from error
    proxy_busy, load_busy = (
        100 * (machine.busy_seconds(cpu) - before) / elapsed for cpu, before in zip(both, busy, strict=True)
    )
    worker, agent, of_broker = (now - before for now, before in zip(place.cpu_seconds(), used, strict=True))
    return Sample(
        records_per_s=found.records / found.seconds,
        total=found.total,
        p50_us=found.p50_us,
        p99_us=found.p99_us,
        worker_cpu=worker,
        agent_cpu=agent,
        broker_cpu=of_broker,
        proxy_busy_percent=proxy_busy,
        load_busy_percent=load_busy,
    )


def _row(name: str, mode: Mode, case: Case, samples: Sequence[Sample]) -> Row:
    rates = [sample.records_per_s for sample in samples]
    per_record = case.work.size / MIB
    metrics = {
        "records_per_s": median(rates),
        "mib_per_s": median(rates) * per_record,
        "min_per_s": min(rates),
        "max_per_s": max(rates),
    }
    for key in ("p50_us", "p99_us"):
        found = [value for sample in samples if (value := getattr(sample, key)) is not None]
        metrics |= {key: median(found)} if found else {}
    worker, agent, of_broker = (
        1e6 * median(getattr(sample, key) / sample.total for sample in samples)
        for key in ("worker_cpu", "agent_cpu", "broker_cpu")
    )
    metrics |= {"broker_cpu_per_mib_us": of_broker / per_record}
    if mode.rules:
        metrics |= {
            "worker_cpu_per_mib_us": worker / per_record,
            "worker_cpu_per_record_us": worker,
            "agent_cpu_per_record_us": agent,
        }
    metrics |= {
        "proxy_busy_percent": median(sample.proxy_busy_percent for sample in samples),
        "load_busy_percent": median(sample.load_busy_percent for sample in samples),
    }
    return Row(mode.name, name, metrics)


def _ratios(samples: Samples, cases: Mapping[str, Case], compared: Sequence[Mode]) -> dict[str, float]:
    """Of what was measured in the same round, as the pace of a machine that others use changes; the rounds' median."""
    found: dict[str, list[float]] = {}
    for name, case in cases.items():
        for together in zip(*(samples[name, mode.name] for mode in compared), strict=True):
            rows = [_row(name, mode, case, [sample]) for mode, sample in zip(compared, together, strict=True)]
            for mode in compared:
                if mode is not DIRECT:
                    for ratio, value in compare(rows, mode.name, (DIRECT.name,), RATIOS).items():
                        found.setdefault(ratio, []).append(value)
    return {ratio: median(values) for ratio, values in found.items()}


def _introduce(processors: Processors, rounds: int, cases: Mapping[str, Case], compared: Sequence[Mode]) -> None:
    works = dict.fromkeys((case.work.records, case.work.size) for case in cases.values())
    lines = [
        *machine.describe(),
        f"processor {processors.load}: client and broker; processor {processors.proxy}: penstock",
        f"broker: Apache Kafka {java.kafka_version()}, one node, log on tmpfs, {PARTITIONS} partitions a topic",
        f"rd: librdkafka {librdkafka_version()}; java: Apache Kafka's client and perf tools {java.kafka_version()}",
        "produce: acks=1, batches of 64 KiB, linger 5 ms (sync: none), no compression",
        f"{rounds} round(s), modes in turn; records: " + ", ".join(f"{n:,} x {size:,} B" for n, size in works),
        f"penstock {version('penstock')}, one worker and its agent: transparent, every request a flow record",
        *(f"{mode.name}: port {mode.port}, {len(mode.rules)} Kafka rules" for mode in compared),
    ]
    print("\n".join(f"  {line}" for line in lines) + "\n", flush=True)
