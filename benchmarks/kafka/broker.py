"""A genuine Apache Kafka in the server's namespace: one node, its log on tmpfs, a listener for each mode."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.kafka import java
from benchmarks.kafka.modes import Mode
from benchmarks.topology import SERVER, Topology

PARTITIONS = 4
_MEMORY = "/dev/shm"
_CONTROLLER = 9099
_CLUSTER = "cGVuc3RvY2stYmVuY2gtMQ"
_HEAP = "1g"
_PATIENCE_S = 60
_SEGMENT, _RETAINED = 32 << 20, 128 << 20
"""Bytes of a partition: what is older is deleted while the benchmark runs, or the memory would be full."""


@contextmanager
def broker(place: Topology, modes: Sequence[Mode]) -> Iterator[int]:
    """Its pid. It starts on the processor of the load, and its files go with it."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-kafka-", dir=_MEMORY) as folder:
        config = Path(folder) / "server.properties"
        config.write_text(_properties(place.server_address, modes, Path(folder) / "log"), encoding="ascii")
        form = java.command("kafka.tools.StorageTool", ["format", "-t", _CLUSTER, "-c", str(config)])
        place.run(SERVER, form, place.processors.proxy, _PATIENCE_S)
        start = java.command("kafka.Kafka", [str(config)], _HEAP)
        yield place.serve(SERVER, start, modes[-1].port, place.processors.load)


def _properties(address: str, modes: Sequence[Mode], log: Path) -> str:
    listeners = ",".join(f"{_name(mode)}://{address}:{mode.port}" for mode in modes)
    plaintext = ",".join(f"{_name(mode)}:PLAINTEXT" for mode in modes)
    properties = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{_CONTROLLER}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{_CONTROLLER}",
        "advertised.listeners": listeners,
        "inter.broker.listener.name": _name(modes[0]),
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,{plaintext}",
        "log.dirs": log,
        "num.partitions": PARTITIONS,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.enable": "false",
        "log.segment.bytes": _SEGMENT,
        "log.retention.bytes": _RETAINED,
        "log.retention.check.interval.ms": 1000,
        "log.segment.delete.delay.ms": 1000,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def _name(mode: Mode) -> str:
    return mode.name.upper().replace("-", "_")
