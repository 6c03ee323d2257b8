"""Java, and Apache Kafka's jars where the set-up puts them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.failure import BenchmarkError

LIBS = Path(sys.prefix) / "kafka" / "libs"
_NEEDED = ("kafka_2.13", "kafka-clients", "kafka-tools")
_HEAP = "512m"
_OPTIONS = ("-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
"""The optimising compiler competes with what is measured for a minute; this one is done in seconds, and as fast."""


def check() -> None:
    """That everything is there; else a sentence on how to get it."""
    if shutil.which("java") is None:
        raise BenchmarkError("java is not installed: `make bench` does that (Debian's default-jdk-headless)")
    missing = [name for name in _NEEDED if not list(LIBS.glob(f"{name}-*.jar"))]
    if missing:
        raise BenchmarkError(f"{', '.join(missing)} not in {LIBS}: `make bench` fetches Apache Kafka's jars with mvn")


def kafka_version() -> str:
    [jar] = LIBS.glob("kafka_2.13-*.jar")
    return jar.stem.partition("-")[2]


def command(program: str, arguments: Sequence[str], heap: str = _HEAP) -> list[str]:
    """How to run a class of Kafka's, or a source file."""
    return ["java", f"-Xms{heap}", f"-Xmx{heap}", *_OPTIONS, "-cp", f"{LIBS}/*", program, *arguments]
