"""Write one record to a topic, or read one: a probe of Kafka rules, with kafka-python as the client.

    python -m proxy.lab.kafka_probe produce|consume HOST PORT TOPIC [--value TEXT] [--timeout S] [--local-ports A-B]

Prints one JSON object: {"outcome": "kafka CODE" | "timeout" | "refused" | ..., "time_total", "detail"}. CODE is 0 when
the record was written, or one with that value read; else it is the error code that the broker, or who answers in its
place, gave. No consumer group is asked for, so that the answer is about the topic.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import BrokerResponseError, KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.inet import KafkaNetSocket

from proxy.lab.dial import bind_free, connect

_POLL_MS = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcome` is a word of the probe files; `time_total` is in seconds, without name resolution."""

    outcome: str
    time_total: float = 0.0
    detail: str = ""


class _LocalPorts(KafkaNetSocket):  # type: ignore[misc]  # kafka-python has no types
    """Connects from the ports of a local-ports://A:B URL, given as `proxy_url`: by these the flow records are found."""

    SCHEMES = ("local-ports",)

    def __init__(self, proxy_url: str) -> None:
        url = urlsplit(proxy_url)
        self._ports = range(int(url.hostname or 0), int(url.port or 0) + 1)

    def socket(self, *of: Any) -> socket.socket:
        made = socket.socket(*of)
        bind_free(made, self._ports)
        return made


class Probe:
    """Deadlines are seconds from the start."""

    def __init__(self, server: str, topic: str, timeout: float, local_ports: range) -> None:
        self._topic = topic
        self._partition = TopicPartition(topic, 0)
        self._deadline = time.monotonic() + timeout
        wait_ms = int(timeout * 1000)
        self._common: dict[str, Any] = {
            "bootstrap_servers": server,
            "request_timeout_ms": wait_ms,
            "bootstrap_timeout_ms": wait_ms,
            "allow_auto_create_topics": False,
            "proxy_url": f"local-ports://{local_ports[0]}:{local_ports[-1]}" if local_ports else None,
        }
        self._wait_ms = wait_ms

    def produce(self, value: bytes) -> None:
        """Until the broker has confirmed the record."""
        waits = {"max_block_ms": self._wait_ms, "delivery_timeout_ms": self._wait_ms}
        # Idempotence begins with InitProducerId, which is not about a topic.
        client = KafkaProducer(**self._common, **waits, acks=1, enable_idempotence=False, linger_ms=0)
        client.send(self._topic, value, partition=0).get(timeout=self._deadline - time.monotonic())

    def consume(self, value: bytes) -> None:
        """Until a record comes, with this value if there is one."""
        settings = {"group_id": None, "enable_auto_commit": False, "fetch_max_wait_ms": _POLL_MS}
        client = KafkaConsumer(**self._common, **settings, auto_offset_reset="earliest")
        client.assign([self._partition])
        while time.monotonic() < self._deadline:
            records = client.poll(_POLL_MS).get(self._partition, [])
            if any(not value or record.value == value for record in records):
                return
            # An assigned partition that the metadata does not have is waited for, whatever the reason.
            if self._topic in client._cluster.unauthorized_topics:
                raise _Unauthorized
        raise KafkaTimeoutError("no such record")


class _Unauthorized(BrokerResponseError):  # type: ignore[misc]  # kafka-python has no types
    errno = 29


def outcome(work: Callable[[], None]) -> Outcome:
    start = time.monotonic()
    word, detail = "kafka 0", ""
    try:
        work()
    except KafkaError as error:
        word, detail = _word(error), str(error)
    return Outcome(word, time.monotonic() - start, detail)


def _word(error: KafkaError) -> str:
    if isinstance(error, BrokerResponseError) and error.errno is not None:
        return f"kafka {error.errno}"
    if isinstance(error, KafkaTimeoutError):
        return "timeout"
    return "reset" if isinstance(error, KafkaConnectionError) else type(error).__name__


def probe(options: argparse.Namespace) -> Outcome:
    family = socket.AF_INET6 if options.ip == 6 else socket.AF_INET
    first, _, last = options.local_ports.partition("-")
    ports = range(int(first), int(last) + 1) if last else range(0)
    # A client of Kafka connects again and again until it gives up: a plain connection tells refusal from silence.
    reached, connection = connect(options.host, options.port, family, options.connect_timeout, ports)
    if connection is None:
        return Outcome(reached.outcome, reached.time_connect, reached.detail)
    with connection:
        address = connection.getpeername()[0]
    server = f"[{address}]:{options.port}" if options.ip == 6 else f"{address}:{options.port}"
    one = Probe(server, options.topic, options.timeout, ports)
    ask = one.produce if options.action == "produce" else one.consume
    return outcome(lambda: ask(options.value.encode()))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m proxy.lab.kafka_probe")
    parser.add_argument("action", choices=("produce", "consume"))
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("topic")
    parser.add_argument("--value", default="", help="the record to write; the one that must be among those read")
    parser.add_argument("--ip", type=int, choices=(4, 6), default=4)
    parser.add_argument("--connect-timeout", type=float, default=2.0, metavar="S")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S")
    parser.add_argument("--local-ports", default="", metavar="A-B")
    options = parser.parse_args(arguments)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it says is in the outcome
    found = probe(options)
    print(json.dumps(asdict(found)), flush=True)
    # Not a usual end: the clients have threads, and closing them waits for answers that may never come.
    os._exit(0 if found.outcome == "kafka 0" else os.EX_UNAVAILABLE)


if __name__ == "__main__":
    main()
