"""What one DNS question costs the worker: its parser, the judge of a client and the opener, without sockets.

A question goes through `read_query` and `rule_dns`, its answer through `fits` and `open`. What a worker remembers of
questions and answers does not help, but for `known`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from itertools import pairwise
from os import close
from statistics import median

from benchmarks import machine
from benchmarks.dns.names import CLOSED, COUNT, OPEN, OPEN_PATTERN, TTL_S, spread
from benchmarks.failure import BenchmarkError
from benchmarks.report import Report, Row
from bpf.loader import Options, load
from bpf.names import NamesMap, make_lock
from config.identity import FIRST_NAMED
from config.policy.resolved import (
    DirectionPolicy,
    DnsRule,
    Endpoint,
    EndpointPolicy,
    FqdnPeer,
    NameGroup,
    Origin,
    PortRange,
    Rule,
    Snapshot,
)
from parsers.dns.answer import fits
from parsers.dns.message import read_query
from proxy.datapath import ConnectionFacts, Redirected
from proxy.worker.judges import DnsJudge, JudgeTable
from proxy.worker.openings import Opener, Openings
from proxy.worker.options import NameOptions, Refusals
from proxy.worker.reports import Reports

NAME = "dns-decisions"
BATCH = 100
SECONDS, QUICK_SECONDS = 1.0, 0.1
PORT, UDP, TCP = 53, 17, 6
CLIENT, SERVER, CLIENT_ID, SERVER_ID = 1, 2, 300, 301
GROUP = NameGroup(FIRST_NAMED, frozenset({FqdnPeer(pattern=OPEN_PATTERN)}))
RULES = (1, 100, COUNT)
NOTES = (
    f"Medians of batches of {BATCH} questions, one process; the names of all rules in turn. Neither sockets nor flow",
    "records are in it. read: read_query; judge: rule_dns; fits: that the answer is to the question; open: read_answer",
    "and, for names that a toFQDNs entry selects (`open`), the map in the kernel; total: all of that.",
    "known: instead of open, an answer that was there a moment ago.",
)


@dataclass(frozen=True, slots=True)
class Message:
    query: bytes
    answer: bytes


def run(quick: bool) -> Report:
    print("\n".join(f"  {line}" for line in machine.describe()) + "\n", flush=True)
    seconds = QUICK_SECONDS if quick else SECONDS
    rows = []
    with _names_map() as names:
        for kind, known in (("closed", CLOSED), ("open", OPEN)):
            for count in RULES:
                print(f"  {kind}, {count} rules", file=sys.stderr, flush=True)
                asked = spread(known, count)
                rows.append(Row(f"rules-{count}", kind, _measure(asked, names, seconds)))
    return Report(NAME, rows, {}, NOTES)


def _measure(asked: Sequence[str], names: NamesMap, seconds: float) -> dict[str, float]:
    snapshot = _snapshot(asked)
    judge, reports = _judge(snapshot), Reports(0, [], [], 0)
    openings, policy = Openings(names, NameOptions(), reports), snapshot.policies[CLIENT]
    messages = [_message(name, number) for number, name in enumerate(asked)]
    taken: list[tuple[float, ...]] = []
    end = time.monotonic() + seconds
    for batch in _batches(messages):
        openers = [Opener(openings, CLIENT, policy) for _ in batch]  # they know nothing yet
        taken.append(_batch(batch, judge, openers))
        reports.take()
        if time.monotonic() >= end:
            break
    read, judged, fit, opened, again = (median(stage) for stage in zip(*taken, strict=True))
    return {
        "read_us": read,
        "judge_us": judged,
        "fits_us": fit,
        "open_us": opened,
        "total_us": median(sum(stages[:-1]) for stages in taken),
        "known_us": again,
    }


def _batches(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Batches without end, all messages in turn."""
    at = 0
    while True:
        yield [messages[(at + number) % len(messages)] for number in range(BATCH)]
        at += BATCH


def _batch(messages: Sequence[Message], judge: DnsJudge, openers: Sequence[Opener]) -> tuple[float, ...]:
    """Microseconds per question of each stage."""
    ends = [time.perf_counter_ns()]
    queries = [read_query(message.query) for message in messages]
    ends.append(time.perf_counter_ns())
    rulings = [judge.rule_dns(query.facts) for query in queries]
    ends.append(time.perf_counter_ns())
    taken = [fits(message.answer, query) for message, query in zip(messages, queries, strict=True)]
    ends.append(time.perf_counter_ns())
    for _ in range(2):
        taken += [
            one.open(query, had.answer) != b"" for one, query, had in zip(openers, queries, messages, strict=True)
        ]
        ends.append(time.perf_counter_ns())
    if not all(ruling.permit for ruling in rulings) or not all(taken):
        raise BenchmarkError("not every question was permitted, or an answer was not taken")
    return tuple((end - start) / BATCH / 1e3 for start, end in pairwise(ends))


@contextmanager
def _names_map() -> Iterator[NamesMap]:
    """A map of its own in the kernel."""
    lock = make_lock()
    try:
        with load(None, Options()) as loaded:
            yield NamesMap(loaded.maps["names"], lock)
    finally:
        close(lock)


def _message(name: str, number: int) -> Message:
    """A question as a resolver of today asks it, with EDNS, and an answer with one address."""
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    edns = bytes.fromhex("00002904d0000000000000")
    head = (number % 65536).to_bytes(2, "big")
    address = IPv4Address(int(IPv4Address("198.18.0.0")) + number).packed
    record = b"\xc0\x0c\0\1\0\1" + TTL_S.to_bytes(4, "big") + b"\0\4" + address
    return Message(
        head + bytes.fromhex("01000001000000000001") + question + edns,
        head + bytes.fromhex("81800001000100000001") + question + record + edns,
    )


def _snapshot(asked: Sequence[str]) -> Snapshot:
    """A rule for each name, and an entry for the names that open."""
    origin = Origin(1, "CiliumNetworkPolicy", "bench", "client", "egress[0]")
    rules = tuple(DnsRule(name) for name in asked)
    egress = DirectionPolicy(
        True,
        (
            Rule(origin, frozenset({SERVER_ID}), (PortRange(UDP, PORT, PORT),), l7=rules),
            Rule(origin, frozenset({GROUP.identity}), (PortRange(TCP, 443, 443),), names=GROUP),
        ),
    )
    client = Endpoint(CLIENT, "bench", "client", frozenset(), CLIENT_ID, (ip_address("10.0.0.1"),), "a")
    policies = {CLIENT: EndpointPolicy(DirectionPolicy(False), egress)}
    return Snapshot(1, {CLIENT: client}, policies, origins={1: origin})


def _judge(snapshot: Snapshot) -> DnsJudge:
    facts = ConnectionFacts(CLIENT, 0, CLIENT_ID, SERVER_ID, Redirected.EGRESS, 1)
    judge = JudgeTable(snapshot, Refusals()).judge_datagrams(facts, PORT)
    if not isinstance(judge, DnsJudge):
        raise BenchmarkError(f"this is no client with DNS rules: {judge}")
    return judge
