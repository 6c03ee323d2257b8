"""The load generators: what they are told, and how to read what they print."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from random import Random
from string import ascii_letters
from typing import Literal, Protocol

from benchmarks.failure import BenchmarkError
from benchmarks.kafka import java
from benchmarks.report import OUT

HERE = Path(__file__).resolve().parent
_MILLISECOND_US = 1000
_JAVA_WARM_UP = 1000
"""As in `SyncProduce.java`."""


@dataclass(frozen=True, slots=True)
class Work:
    """So many records of so many bytes, to a topic or from it."""

    topic: str
    records: int
    size: int


@dataclass(frozen=True, slots=True)
class Figures:
    """`total` records went there or back, of which some took so many seconds. No latency: there is none to tell."""

    total: int
    records: int
    seconds: float
    p50_us: float | None = None
    p99_us: float | None = None


class Load(Protocol):
    def command(self, bootstrap: str, work: Work) -> list[str]: ...

    def figures(self, printed: str, work: Work) -> Figures:
        """BenchmarkError if that is not what was asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Librdkafka:
    """`load.c`."""

    what: Literal["produce", "sync", "consume"]

    def command(self, bootstrap: str, work: Work) -> list[str]:
        return [str(program()), self.what, bootstrap, work.topic, str(work.records), str(work.size)]

    def figures(self, printed: str, work: Work) -> Figures:
        return _four_numbers(printed, work.records, latency=self.what != "consume")


@dataclass(frozen=True, slots=True)
class JavaSync:
    """`SyncProduce.java`, which the JVM compiles as it starts."""

    def command(self, bootstrap: str, work: Work) -> list[str]:
        return java.command(str(HERE / "SyncProduce.java"), [bootstrap, work.topic, str(work.records), str(work.size)])

    def figures(self, printed: str, work: Work) -> Figures:
        found = _four_numbers(printed, work.records, latency=True)
        return replace(found, total=found.total + _JAVA_WARM_UP)


@dataclass(frozen=True, slots=True)
class JavaProduce:
    """Apache's ProducerPerformance. The records before the JVM is warm are not in rate and latencies.

    Its payload comes from a file: making one up for each record would be most of its work.
    """

    warm_up: float = 0.25

    def command(self, bootstrap: str, work: Work) -> list[str]:
        properties = ("client.id=bench", "acks=1", "batch.size=65536", "linger.ms=5")
        arguments = [
            *("--bootstrap-server", bootstrap, "--topic", work.topic, "--throughput", "-1"),
            *("--num-records", str(work.records), "--payload-file", str(_payload(work.size))),
            *("--warmup-records", str(int(work.records * self.warm_up)), "--reporting-interval", "600000"),
            *("--command-property", *properties),
        ]
        return java.command("org.apache.kafka.tools.ProducerPerformance", arguments)

    def figures(self, printed: str, work: Work) -> Figures:
        found = re.findall(r"(\d+)(?: steady state)? records sent, ([\d.]+) records/sec .*", printed)
        if not found or int(found[0][0]) != work.records:
            raise BenchmarkError(f"ProducerPerformance did not send {work.records} records: {printed[-500:].strip()}")
        last = printed.strip().splitlines()[-1]
        p50, p99 = (float(_one(rf"([\d.]+) ms {name}th", last)) * _MILLISECOND_US for name in ("50", "99"))
        records, rate = int(found[-1][0]), float(found[-1][1])
        return Figures(work.records, records, records / rate, p50, p99)


@dataclass(frozen=True, slots=True)
class JavaConsume:
    """Apache's ConsumerPerformance, without the time it takes to join a group."""

    def command(self, bootstrap: str, work: Work) -> list[str]:
        arguments = [
            *("--bootstrap-server", bootstrap, "--topic", work.topic, "--num-records", str(work.records)),
            *("--command-property", "client.id=bench"),
        ]
        return java.command("org.apache.kafka.tools.ConsumerPerformance", arguments)

    def figures(self, printed: str, work: Work) -> Figures:
        lines = [line.split(", ") for line in printed.strip().splitlines()]
        heads = [number for number, line in enumerate(lines) if "fetch.nMsg.sec" in line]
        if not heads or heads[0] + 1 >= len(lines):
            raise BenchmarkError(f"ConsumerPerformance says nothing: {printed[-500:].strip()}")
        row = dict(zip(lines[heads[0]], lines[heads[0] + 1], strict=True))
        records = int(row["data.consumed.in.nMsg"])
        if records < work.records:
            raise BenchmarkError(f"ConsumerPerformance got {records} of {work.records} records")
        return Figures(records, records, records / float(row["fetch.nMsg.sec"]))


def _payload(size: int) -> Path:
    """A line of letters, always the same ones."""
    path = OUT / f"kafka-payload-{size}"
    if not path.exists() or path.stat().st_size != size:
        OUT.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(Random(size).choices(ascii_letters, k=size)), encoding="ascii")
    return path


def _four_numbers(printed: str, records: int, *, latency: bool) -> Figures:
    """What our own programs print."""
    try:
        counted, micros, p50, p99 = map(int, printed.split())
    except ValueError as error:
        raise BenchmarkError(f"the load printed {printed[-500:].strip()!r}") from error
    seconds = micros / 1e6
    return Figures(records, counted, seconds, p50, p99) if latency else Figures(records, counted, seconds)


def _one(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise BenchmarkError(f"the load printed {text[-500:]!r}")
    return found[1]


def library() -> Path:
    """The librdkafka inside the wheel `confluent-kafka`: newer than Debian's, and what Python programs have."""
    spec = find_spec("confluent_kafka")
    if spec is None or spec.origin is None:
        raise BenchmarkError("confluent-kafka is not installed: `make setup` does that")
    folder = Path(spec.origin).parent.with_name("confluent_kafka.libs")
    found = list(folder.glob("librdkafka*.so*"))
    if len(found) != 1:
        raise BenchmarkError(f"there is no librdkafka in {folder}")
    return found[0]


def program() -> Path:
    """`load.c`, compiled anew when it or the library is newer."""
    source, shared, made = HERE / "load.c", library(), OUT / "kafka-load"
    if made.exists() and made.stat().st_mtime > max(source.stat().st_mtime, shared.stat().st_mtime):
        return made
    OUT.mkdir(parents=True, exist_ok=True)
    command = ["clang", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(made), str(source), str(shared)]
    done = subprocess.run([*command, f"-Wl,-rpath,{shared.parent}"], capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(f"{source.name} does not compile (`make bench` installs librdkafka-dev):\n{done.stderr}")
    return made


def librdkafka_version() -> str:
    return subprocess.run([str(program()), "version"], capture_output=True, text=True, check=True).stdout.strip()
