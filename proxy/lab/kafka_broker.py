"""A Kafka broker for pods without Java: librdkafka's own cluster for tests, reachable at the pod's address.

    python -m proxy.lab.kafka_broker --topic new-orders --topic payments:3

It keeps records in memory, knows consumer groups and transactions, and has no ACLs, TLS or SASL: whoever reaches it may
do everything. It listens on loopback only, so connections to `--port` are carried there, and clients are told the
pod's own address. Needs the package confluent-kafka.

What librdkafka says to an ApiVersions request that is too new for it is malformed (seen in 2.16); such requests are
answered here, as a broker would.

Where the environment names a LAB_KAFKA_BROKER, a shell command, that runs instead, with the same options behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import struct
import sys
from pathlib import Path

INSTEAD = "LAB_KAFKA_BROKER"
_PRODUCER = 0
_CHUNK = 1 << 18
_REBALANCE_MS = 300  # 3 s by default; with none clients join before they know the topics, and then wait to join again
_HEAD = struct.Struct(">ihh")  # size, kind of request, its version
_MOST_HEAD = 1 << 16
_API_VERSIONS, _NEWEST = 18, 2
_UNSUPPORTED = struct.Struct(">i4shihhh")  # of ApiVersions: error 35 in version 0, and which versions there are
_CAPS = {3: 8, 11: 5, 12: 3, 13: 3, 14: 3}
"""Metadata, JoinGroup, Heartbeat, LeaveGroup, SyncGroup: the newest versions that librdkafka answers without a flaw.

Later Metadata has a byte too many at its end, which Penstock does not let pass; kafka-python cannot read the others.
"""


class MockCluster:
    """One broker of librdkafka's mock cluster (`rdkafka_mock.h`). It lives as long as the process."""

    def __init__(self, host: str, port: int) -> None:
        self._lib = _librdkafka()
        error = ctypes.create_string_buffer(512)
        client = self._lib.rd_kafka_new(_PRODUCER, None, error, len(error))
        if not client:
            raise SystemExit(f"librdkafka: {error.value.decode()}")
        self._cluster = self._lib.rd_kafka_mock_cluster_new(client, 1)
        self.address = str(self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())
        self._lib.rd_kafka_mock_broker_set_host_port(self._cluster, 1, host.encode(), port)
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, _REBALANCE_MS)
        for key, newest in _CAPS.items():
            self._lib.rd_kafka_mock_set_apiversion(self._cluster, key, 0, newest)

    def create(self, topic: str, partitions: int) -> None:
        failed = self._lib.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1)
        if failed:
            raise SystemExit(f"topic {topic!r} can not be made: error {failed}")


def _librdkafka() -> ctypes.CDLL:
    """The library that comes with confluent-kafka, with the types of what is used of it."""
    try:
        import confluent_kafka
    except ImportError:
        raise SystemExit("the package confluent-kafka is not installed: pip install confluent-kafka") from None
    folder = Path(confluent_kafka.__file__).parent.with_name("confluent_kafka.libs")
    found = next(folder.glob("librdkafka*.so*"), None)
    lib = ctypes.CDLL(str(found) if found else "librdkafka.so.1")
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    lib.rd_kafka_new.restype = lib.rd_kafka_mock_cluster_new.restype = pointer
    lib.rd_kafka_new.argtypes = [number, pointer, text, ctypes.c_size_t]
    lib.rd_kafka_mock_cluster_new.argtypes = [pointer, number]
    lib.rd_kafka_mock_cluster_bootstraps.restype = text
    lib.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    lib.rd_kafka_mock_topic_create.argtypes = [pointer, text, number, number]
    lib.rd_kafka_mock_group_initial_rebalance_delay_ms.argtypes = [pointer, ctypes.c_int32]
    lib.rd_kafka_mock_set_apiversion.argtypes = [pointer, ctypes.c_int16, ctypes.c_int16, ctypes.c_int16]
    lib.rd_kafka_mock_broker_set_host_port.argtypes = [pointer, ctypes.c_int32, text, number]
    return lib


async def _begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Answers ApiVersions requests that are too new; the first bytes that are for the cluster."""
    try:
        while True:
            head = await reader.readexactly(_HEAD.size)
            size, key, version = _HEAD.unpack(head)
            if key != _API_VERSIONS or version <= _NEWEST or not 8 <= size < _MOST_HEAD:
                return head
            correlation = (await reader.readexactly(size - 4))[:4]
            writer.write(_UNSUPPORTED.pack(_UNSUPPORTED.size - 4, correlation, 35, 1, _API_VERSIONS, 0, _NEWEST))
    except asyncio.IncompleteReadError as error:
        return error.partial
    except OSError:
        return b""


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    writer.close()


async def _serve(cluster: MockCluster, listen: str, port: int) -> None:
    host, _, inner = cluster.address.rpartition(":")

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await _begin(reader, writer)
        broker_reader, broker_writer = await asyncio.open_connection(host, int(inner))
        broker_writer.write(first)
        await asyncio.gather(_carry(reader, broker_writer), _carry(broker_reader, writer))

    server = await asyncio.start_server(carry, listen, port)
    ended = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, ended.set)
    print(f"serving Kafka on {listen} port {port}", flush=True)
    await ended.wait()
    server.close()


def _own_address() -> str:
    """The IPv4 address by which others reach this pod."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--listen", help="address to listen on, which clients are told, too (default: the pod's own)")
    parser.add_argument("--topic", action="append", default=[], metavar="NAME[:PARTITIONS]")
    arguments = parser.parse_args()
    if instead := os.environ.get(INSTEAD):
        os.execvp("sh", ["sh", "-c", f'exec {instead} "$@"', "sh", *sys.argv[1:]])
    address = arguments.listen or _own_address()
    cluster = MockCluster(address, arguments.port)
    for item in arguments.topic:
        name, _, partitions = item.partition(":")
        cluster.create(name, int(partitions or 1))
    asyncio.run(_serve(cluster, address, arguments.port))
    sys.exit(0)


if __name__ == "__main__":
    main()
