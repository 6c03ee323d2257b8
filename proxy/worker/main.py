"""The worker process: `python -m proxy.worker.main ARGS` with inherited descriptors.

Descriptors: the control channel (stream socket to the agent), for each IP family one listening socket and one for
datagrams, the kernel's `proxy_conns` map, from which a connection's facts are read, and its `names` map with the lock
that all its writers share. The order at start: settings and first snapshot arrive on
the control channel, then connections are accepted, then `APPLIED` is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import pickle
import resource
import signal
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import cast

import uvloop

from config.policy.resolved import Direction, DirectionPolicy, EndpointPolicy, KafkaRule, Snapshot
from parsers.dns.filter import DnsShared
from parsers.dns.judging import DnsExchange
from parsers.http1.judging import Http1Shared
from parsers.http2.conversation import Http2Shared
from parsers.kafka import codecs
from parsers.kafka.requests import KafkaShared
from proxy.datapath import ConnectionFacts, ConnectionTable, NamesMap, Redirected
from proxy.flows import wire
from proxy.flows.model import Verdict
from proxy.supervise import Supervisor
from proxy.worker.congestion import is_default_paced
from proxy.worker.connection import Downstream
from proxy.worker.control import Deframer, Kind, frame
from proxy.worker.dns_proxy import DnsProxy
from proxy.worker.floods import FloodingClients
from proxy.worker.judges import ConnectionJudge, ConnectionRefused, JudgeTable
from proxy.worker.openings import Opener, Openings
from proxy.worker.options import WorkerOptions
from proxy.worker.relay import DESCRIPTORS_OF_RELAY, Pipes
from proxy.worker.reports import Reports
from proxy.worker.side import LINGER_NS
from proxy.worker.updates import WorkerChange, WorkerUpdate, apply_change
from proxy.worker.upstream import Upstream

log = logging.getLogger("penstock.worker")

UNKNOWN_CONNECTION = ConnectionFacts(0, 0, 0, 0, Redirected(0), 0)
_NO_POLICY = EndpointPolicy(DirectionPolicy(enforced=False), DirectionPolicy(enforced=False))
FLUSH_INTERVAL_S = 0.02
"""Short, so that making a batch never holds up traffic for long."""

MAX_UNSENT_BYTES = 4 << 20
"""Reports that the agent has not read yet; beyond it they are lost (and counted), never waited for."""


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What the agent passes on: maps and their lock by number, sockets that listen or receive datagrams."""

    connection_map: int
    names_map: int
    names_lock: int
    listeners: list[socket.socket]
    receivers: list[socket.socket]


class Worker:
    """What the connections of one process share."""

    def __init__(self, options: WorkerOptions, descriptors: Descriptors) -> None:
        self.limits = options.limits
        self.http1 = Http1Shared(options.limits.http1())
        self.http2 = Http2Shared(options.limits.http2(), self.http1.exchanges)
        self.tls = options.limits.tls()
        self.kafka = KafkaShared(options.limits.kafka(), cap=options.cap_kafka_versions)
        self.floods = FloodingClients(int(options.limits.flood_penalty_s * 1e9))
        offset = time.time_ns() - time.monotonic_ns()
        self.names = options.names
        self.dns_exchanges: list[DnsExchange] = []
        self.reports = Reports(
            options.index,
            self.http1.exchanges,
            self.http2.complaints,
            offset,
            kafka=self.kafka.exchanges,
            dns=self.dns_exchanges,
            dns_timeout_s=options.limits.dns_timeout_s,
        )
        self.dns = DnsShared(
            options.limits.dns(), options.names.refuse_rcode, self.dns_exchanges, self.reports.counters
        )
        self._names_map = NamesMap(descriptors.names_map, descriptors.names_lock)
        self._openings = Openings(self._names_map, options.names, self.reports)
        self._openers: dict[int, Opener] = {}
        self.datagrams = DnsProxy(self, descriptors.receivers)
        self.pipes = Pipes(options.limits.max_relays)
        self.is_default_paced = is_default_paced()
        self.connections: set[Downstream] = set()
        self.lingering: set[Upstream] = set()
        self.supervisor = Supervisor()
        self.judges: JudgeTable
        self._is_ready_for_kafka = False
        self._refusals = options.refusals
        self._listeners = descriptors.listeners
        self._listener_addresses = {listener.getsockname()[:2] for listener in descriptors.listeners}
        self._table = ConnectionTable(descriptors.connection_map)
        self._last_id = 0
        self._longest_idle: list[Downstream] = []
        self._looked_for_idle_ns = 0
        self._max_connections = min(
            options.limits.max_connections, descriptors_for_connections(options.limits.max_relays)
        )

    def next_id(self) -> int:
        """The number of one more connection, or of one more exchange of datagrams."""
        self._last_id += 1
        return self._last_id

    def judge(self, facts: ConnectionFacts, server: tuple[str, int]) -> ConnectionJudge | ConnectionRefused:
        """The judge of a TCP connection with what names have opened the server's address."""
        return self.judges.judge(facts, server[1], self._named(facts, server[0]))

    def _named(self, facts: ConnectionFacts, server: str) -> frozenset[int]:
        policy = self.judges.snapshot.policies.get(facts.source_endpoint)
        if policy is None or not any(rule.names for rule in policy.egress.rules):
            return frozenset()
        address = ip_address(server.partition("%")[0]).packed
        return frozenset(slot.identity for slot in self._names_map.get(facts.source_endpoint, address))

    def opener(self, endpoint: int) -> Opener:
        """Of the endpoint under the policy in force."""
        opener = self._openers.get(endpoint)
        if opener is None:
            policy = self.judges.snapshot.policies.get(endpoint, _NO_POLICY)
            opener = self._openers[endpoint] = Opener(self._openings, endpoint, policy)
        return opener

    def facts_of_datagram(
        self, family: int, client: tuple[str, int], server: tuple[str, int]
    ) -> ConnectionFacts | None:
        return self._table.lookup(family, client, server, socket.IPPROTO_UDP)

    def admit(self, connection: Downstream) -> ConnectionFacts | None:
        """The kernel's facts of a new connection, or None: it was not redirected to us, or there are too many."""
        connection.id = self.next_id()
        if connection.server in self._listener_addresses:
            self.reports.counters["refused.direct"] += 1
            return None
        if self.floods.is_out(connection.client[0], connection.last_activity):
            self.reports.limit("flooding_clients")
            return None
        if len(self.connections) >= self._max_connections and not self._make_room():
            self.reports.limit("max_connections")
            return None
        family = socket.AF_INET6 if ":" in connection.client[0] else socket.AF_INET
        facts = self._table.lookup(family, connection.client, connection.server)
        if facts is None:
            self.reports.counters["refused.unknown"] += 1
            connection.facts = UNKNOWN_CONNECTION
            self.reports.failure(
                connection,
                connection.last_activity,
                Verdict.ERROR,
                Direction.INGRESS,
                "the kernel has no record of this connection",
            )
            return None
        self.reports.counters["connections"] += 1
        return facts

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest: somebody who keeps many open keeps nobody out."""
        now = time.monotonic_ns()
        if not self._longest_idle and now - self._looked_for_idle_ns > 1_000_000_000:
            self._looked_for_idle_ns = now
            idle = (connection for connection in self.connections if connection.is_idle)
            self._longest_idle = sorted(idle, key=lambda connection: connection.last_activity, reverse=True)
        while self._longest_idle:
            connection = self._longest_idle.pop()
            is_unused = connection.last_activity < self._looked_for_idle_ns
            if is_unused and connection in self.connections and connection.is_idle:
                self.reports.limit("idle_connections")
                connection.abort()
                return True
        return False

    def apply(self, snapshot: Snapshot) -> None:
        """Put a snapshot in force, for new requests of live connections as well."""
        if not self._is_ready_for_kafka and has_kafka_rules(snapshot):
            self._is_ready_for_kafka = True
            codecs.warm()
        self.judges = JudgeTable(snapshot, self._refusals, self.names)
        self._openers.clear()
        self.datagrams.judge_anew()
        for connection in list(self.connections):
            connection.judge_anew()

    async def serve(self) -> None:
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            await loop.create_server(lambda: Downstream(self), sock=listener, backlog=4096)
        self.datagrams.serve()
        self.supervisor.start("clock", self._watch_time())

    async def _watch_time(self) -> None:
        while True:
            await asyncio.sleep(1)
            now = time.monotonic_ns()
            for connection in list(self.connections):
                connection.check_time(now)
            for upstream in list(self.lingering):
                if now - upstream.lingering_since > LINGER_NS:
                    upstream.reset()

    async def drain(self) -> None:
        """Let exchanges under way finish, close idle connections, give up at the deadline."""
        deadline = time.monotonic() + self.limits.drain_timeout_s
        while (self.connections or not self.datagrams.is_idle) and time.monotonic() < deadline:
            for connection in list(self.connections):
                connection.drain()
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.abort()


def has_kafka_rules(snapshot: Snapshot) -> bool:
    """Is there anything in it for which Kafka's codecs have to be loaded?"""
    rules = (rule for policy in snapshot.policies.values() for rule in (*policy.ingress.rules, *policy.egress.rules))
    return any(isinstance(item, KafkaRule) for rule in rules for item in rule.l7 or ())


def descriptors_for_connections(relays: int) -> int:
    """How many connections this process has descriptors for: two each, and some to spare. Raises the soft limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return max(1, int((hard - DESCRIPTORS_OF_RELAY * relays) * 0.45))


class ControlChannel(asyncio.Protocol):
    """The agent's end of the world. When it closes, the worker ends: nobody else may change its policy."""

    def __init__(self, descriptors: Descriptors, ended: asyncio.Future[None]) -> None:
        self._descriptors = descriptors
        self._ended = ended
        self._deframer = Deframer()
        self._worker: Worker | None = None
        self._supervisor = Supervisor()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        for kind, payload in self._deframer.feed(data):
            self._supervisor.start(kind.name.lower(), self._handle(kind, payload), self._give_up)

    async def _handle(self, kind: Kind, payload: bytes) -> None:
        if kind is Kind.SNAPSHOT:
            update: WorkerUpdate = pickle.loads(payload)
            self._worker = Worker(update.options, self._descriptors)
            self._worker.apply(update.snapshot)
            await self._worker.serve()
            self._worker.supervisor.start("reports", self._report())
            gc.freeze()
            self._applied(update.snapshot)
        elif kind is Kind.CHANGE:
            assert self._worker is not None
            change: WorkerChange = pickle.loads(payload)
            self._worker.apply(apply_change(self._worker.judges.snapshot, change))
            self._applied(self._worker.judges.snapshot)
        elif kind is Kind.DRAIN:
            if self._worker is not None:
                await self._worker.drain()
                self._flush()
            self._transport.write(frame(Kind.DRAINED))
            self._transport.close()

    def _applied(self, snapshot: Snapshot) -> None:
        self._transport.write(frame(Kind.APPLIED, snapshot.revision.to_bytes(8, "big")))

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            self._flush()

    def _flush(self) -> None:
        assert self._worker is not None
        batch = self._worker.reports.take()
        if batch is None:
            return
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._worker.reports.lose(batch)
        else:
            self._transport.write(frame(Kind.BATCH, wire.ENCODER.encode(batch)))

    def _give_up(self, error: BaseException) -> None:
        """A snapshot that can not be applied leaves no known state to go on from."""
        if not self._ended.done():
            self._ended.set_exception(error)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


async def _run(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    descriptors = Descriptors(
        arguments.connections,
        arguments.names,
        arguments.names_lock,
        [socket.socket(fileno=fd) for fd in arguments.listener],
        [socket.socket(fileno=fd) for fd in arguments.receiver],
    )
    control = socket.socket(fileno=arguments.control)
    await loop.create_connection(lambda: ControlChannel(descriptors, ended), sock=control)
    await ended


def main() -> None:
    parser = argparse.ArgumentParser(description="A Penstock worker; started by `penstock run`, not by hand.")
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--names", type=int, required=True)
    parser.add_argument("--names-lock", type=int, required=True)
    parser.add_argument("--listener", type=int, action="append", required=True)
    parser.add_argument("--receiver", type=int, action="append", required=True)
    arguments = parser.parse_args()
    # The agent decides when to stop; a Ctrl-C at the terminal reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # Short-lived objects here are freed by reference counting; full collections would only add pauses.
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(_run(arguments))
    os._exit(0)


if __name__ == "__main__":
    main()
