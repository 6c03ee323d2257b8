"""A Kafka broker for pods without Java: librdkafka's own cluster for tests, reachable at the pod's address.

    python -m proxy.lab.kafka_broker --topic new-orders --topic payments:3

It keeps records in memory, knows consumer groups and transactions, and has no ACLs, TLS or SASL: whoever reaches it may
do everything. It listens on loopback only, so connections to `--port` are carried there, and clients are told the
pod's own address. Needs the package confluent-kafka.

Of ApiVersions it understands no version above 2, and says so in a way that kafka-python cannot read: give that
`api_version=(2, 3)`.

Where the environment names a LAB_KAFKA_BROKER, a shell command, that runs instead, with the same options behind it.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import socket
import sys
from pathlib import Path

INSTEAD = "LAB_KAFKA_BROKER"
_PRODUCER = 0
_CHUNK = 1 << 18


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
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)

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
    lib.rd_kafka_mock_broker_set_host_port.argtypes = [pointer, ctypes.c_int32, text, number]
    return lib


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
        broker_reader, broker_writer = await asyncio.open_connection(host, int(inner))
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
