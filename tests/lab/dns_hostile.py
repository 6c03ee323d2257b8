"""A DNS server that does what the question tells it to: `python -P dns_hostile.py ADDRESS OTHER_ADDRESS`.

    PLAY.GOOD.EVIL.hostile.test     GOOD and EVIL are IPv4 addresses with dashes for dots

GOOD is what the name has; EVIL is what nobody should get to by that answer. Each play is a function of the question
that yields what is to be sent, in order; `PLAYS` and `TCP_PLAYS` name them. A play that is not known is answered well.
It listens on port 53 of ADDRESS, UDP and TCP; answers of somebody else come from OTHER_ADDRESS. Every query is logged.
"""

from __future__ import annotations

import secrets
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

PORT, OTHER_PORT = 53, 5353
A, CNAME, AAAA = 1, 5, 28
IN, CHAOS = 1, 3
NXDOMAIN = 3
RESPONSE, TRUNCATED = 0x8180, 0x8380
POINTER = b"\xc0\x0c"
"""To the name of the question."""
TTL = 300
SLOW_S, LATE_S = 0.5, 3.0
FORGERIES = 1000
MANY = 4000
"""Records that just go into one message."""


@dataclass(frozen=True, slots=True)
class Question:
    """One query: its name in lower case, the wire bytes of its question, and the addresses that the name has in it."""

    id: int
    text: str
    wire: bytes
    good: bytes
    evil: bytes
    tcp: bool

    @property
    def play(self) -> str:
        return self.text.split(".")[0]


@dataclass(frozen=True, slots=True)
class Send:
    """One message. `place`: from the port that was asked, from another one, or from another address.

    `raw`: over TCP, without the length in front of it. `to_other`: to another port of the client.
    """

    message: bytes
    place: str = "asked"
    raw: bool = False
    to_other: bool = False


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


Act = Send | Pause
Play = Callable[[Question], Iterator[Act]]


def record(data: bytes, kind: int = A, owner: bytes = POINTER, ttl: int = TTL, net: int = IN) -> bytes:
    return owner + struct.pack(">HHIH", kind, net, ttl, len(data)) + data


def wire_name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def message(
    asked: Question,
    *records: bytes,
    number: int | None = None,
    flags: int = RESPONSE,
    counts: tuple[int, int, int] | None = None,
    question: bytes | None = None,
    more: bytes = b"",
) -> bytes:
    """A response. `counts` are those of the three sections behind the question; `more` is what follows the answers."""
    number = asked.id if number is None else number
    answers, authority, additional = counts or (len(records), 0, 0)
    head = struct.pack(">6H", number, flags, 1, answers, authority, additional)
    return head + (asked.wire if question is None else question) + b"".join(records) + more


def good(asked: Question) -> bytes:
    return message(asked, record(asked.good))


def evil(asked: Question, **changes: object) -> bytes:
    return message(asked, record(asked.evil), **changes)  # type: ignore[arg-type]


# -- answers that are not from whom they should be -----------------------------------------------------------------


def wrong_id(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, number=asked.id ^ 1))


def many_forgeries(asked: Question) -> Iterator[Act]:
    for number in secrets.SystemRandom().sample(range(1 << 16), FORGERIES):
        if number != asked.id:
            yield Send(evil(asked, number=number))


def wrong_port(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked), "port")


def wrong_address(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked), "address")


def wrong_client_port(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked), to_other=True)


def wrong_question(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, question=wire_name("other.hostile.test") + asked.wire[-4:]))


def wrong_type(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, question=asked.wire[:-4] + struct.pack(">HH", AAAA, IN)))


def wrong_class(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, question=asked.wire[:-2] + struct.pack(">H", CHAOS)))


def no_response(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, flags=0x0100))


def other_opcode(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, flags=RESPONSE | 5 << 11))


def garbage(asked: Question) -> Iterator[Act]:
    yield Send(asked.id.to_bytes(2, "big") + secrets.token_bytes(60))


def short(asked: Question) -> Iterator[Act]:
    yield Send(asked.id.to_bytes(2, "big") + b"\x81\x80")


def silence(asked: Question) -> Iterator[Act]:
    yield from ()


def late(asked: Question) -> Iterator[Act]:
    yield Pause(LATE_S)
    yield Send(evil(asked))


# -- answers to the question that are broken -------------------------------------------------------------------------


def pointer_loop(asked: Question) -> Iterator[Act]:
    at = len(asked.wire) + 12
    yield Send(message(asked, record(asked.evil, owner=struct.pack(">H", 0xC000 | at))))


def pointer_pair(asked: Question) -> Iterator[Act]:
    """Two names that point at each other."""
    at = len(asked.wire) + 12
    first = struct.pack(">H", 0xC000 | at + 16)
    second = struct.pack(">H", 0xC000 | at)
    yield Send(message(asked, record(asked.evil, owner=first), record(asked.evil, owner=second)))


def pointer_forward(asked: Question) -> Iterator[Act]:
    at = len(asked.wire) + 12 + 16
    yield Send(message(asked, record(asked.evil, owner=struct.pack(">H", 0xC000 | at)), record(asked.evil)))


def long_label(asked: Question) -> Iterator[Act]:
    yield Send(message(asked, record(asked.evil, owner=b"\x50" + bytes(80))))


def too_many_counted(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, counts=(60000, 0, 0)))


def ten_thousand_counted(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, counts=(10000, 10000, 10000)))


def too_few_counted(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, counts=(0, 0, 0)))


def two_questions(asked: Question) -> Iterator[Act]:
    head = struct.pack(">6H", asked.id, RESPONSE, 2, 1, 0, 0)
    yield Send(head + asked.wire * 2 + record(asked.evil))


def long_data(asked: Question) -> Iterator[Act]:
    yield Send(message(asked, POINTER + struct.pack(">HHIH", A, IN, TTL, 4000) + asked.evil))


def cut(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked)[:-2])


def trailing(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, more=b"\0\0\0"))


def cname_loop(asked: Question) -> Iterator[Act]:
    other = wire_name("loop.hostile.test")
    back = record(asked.wire[:-4], CNAME, other)
    yield Send(message(asked, record(other, CNAME), back, record(asked.evil, owner=other)))


def two_cnames(asked: Question) -> Iterator[Act]:
    one, two = wire_name("one.hostile.test"), wire_name("two.hostile.test")
    yield Send(message(asked, record(one, CNAME), record(two, CNAME), record(asked.evil, owner=two)))


def _chain(asked: Question, length: int, address: bytes) -> bytes:
    records, owner = [], POINTER
    for number in range(length):
        target = wire_name(f"c{number}.hostile.test")
        records.append(record(target, CNAME, owner))
        owner = target
    return message(asked, *records, record(address, owner=owner))


def chain_17(asked: Question) -> Iterator[Act]:
    yield Send(_chain(asked, 17, asked.evil))


# -- well-formed answers with more in them than was asked for ------------------------------------------------------


def other_owner(asked: Question) -> Iterator[Act]:
    yield Send(message(asked, record(asked.evil, owner=wire_name("other.hostile.test"))))


def other_owners(asked: Question) -> Iterator[Act]:
    """The address of the name, and of others in every section."""
    other = wire_name("other.hostile.test")
    more = record(asked.evil) + record(asked.evil, owner=other)
    yield Send(message(asked, record(asked.good), record(asked.evil, owner=other), counts=(2, 1, 1), more=more))


def beside_the_chain(asked: Question) -> Iterator[Act]:
    """Behind a CNAME the name itself owns no address any more."""
    target = wire_name("target.hostile.test")
    yield Send(message(asked, record(target, CNAME), record(asked.good, owner=target), record(asked.evil)))


def other_class(asked: Question) -> Iterator[Act]:
    yield Send(message(asked, record(asked.evil, net=CHAOS)))


def wrong_size(asked: Question) -> Iterator[Act]:
    """Five bytes are no address; whether the rest is good enough is the reader's to say."""
    yield Send(message(asked, record(asked.evil + b"\0")))


def mapped(asked: Question) -> Iterator[Act]:
    """IPv4 in an AAAA record (RFC 4291 §2.5.5.2)."""
    yield Send(message(asked, record(bytes(10) + b"\xff\xff" + asked.evil, AAAA)))


def no_such_name(asked: Question) -> Iterator[Act]:
    yield Send(evil(asked, flags=RESPONSE | NXDOMAIN))


def truncated(asked: Question) -> Iterator[Act]:
    """With a record all the same: resolvers that know no TCP take what is there."""
    yield Send(message(asked, record(asked.good), flags=RESPONSE if asked.tcp else TRUNCATED))


def double_different(asked: Question) -> Iterator[Act]:
    yield Send(good(asked))
    yield Send(evil(asked))


# -- good answers --------------------------------------------------------------------------------------------------


def chain_16(asked: Question) -> Iterator[Act]:
    yield Send(_chain(asked, 16, asked.good))


def double(asked: Question) -> Iterator[Act]:
    yield Send(good(asked))
    yield Send(good(asked))


def slow(asked: Question) -> Iterator[Act]:
    yield Pause(SLOW_S)
    yield Send(good(asked))


def many(asked: Question) -> Iterator[Act]:
    """As many records as a message holds, over TCP; the good address is the first."""
    if not asked.tcp:
        yield Send(message(asked, flags=TRUNCATED))
        return
    others = (record(IPv4Address((100 << 24) + (64 << 16) + number).packed) for number in range(MANY - 1))
    yield Send(message(asked, record(asked.good), *others))


def no_time_to_live(asked: Question) -> Iterator[Act]:
    """The top bit set means 0 (RFC 2181 §8)."""
    yield Send(message(asked, record(asked.good, ttl=1 << 31)))


# -- over TCP ------------------------------------------------------------------------------------------------------


def bytewise(asked: Question) -> Iterator[Act]:
    whole = good(asked)
    for byte in len(whole).to_bytes(2, "big") + whole:
        yield Send(bytes([byte]), raw=True)
        yield Pause(0.002)


def forgery_first(asked: Question) -> Iterator[Act]:
    """In one segment with the good one."""
    both = [evil(asked, number=asked.id ^ 1), good(asked)]
    yield Send(b"".join(len(one).to_bytes(2, "big") + one for one in both), raw=True)


def ends_too_soon(asked: Question) -> Iterator[Act]:
    yield Send(b"\x02\0" + evil(asked), raw=True)


def empty_message(asked: Question) -> Iterator[Act]:
    yield Send(b"\0\0", raw=True)


def tiny_message(asked: Question) -> Iterator[Act]:
    yield Send(b"\0\x03abc", raw=True)


def _named(*plays: Play) -> dict[str, Play]:
    return {play.__name__.replace("_", "-"): play for play in plays}


FORGED = _named(
    wrong_id, many_forgeries, wrong_port, wrong_address, wrong_client_port, wrong_question, wrong_type, wrong_class,
    no_response, other_opcode, garbage, short, silence, late,
)  # fmt: skip
"""None of them is an answer to the question. With `-then-good` behind its name such a play ends in the good answer."""
BROKEN = _named(
    pointer_loop, pointer_pair, pointer_forward, long_label, too_many_counted, ten_thousand_counted, too_few_counted,
    two_questions, long_data, cut, trailing, cname_loop, two_cnames, chain_17,
)  # fmt: skip
OPENS_NOTHING = _named(other_owner, other_class, wrong_size, mapped, no_such_name)
OPENS_GOOD = _named(
    other_owners, beside_the_chain, double_different, chain_16, double, slow, no_time_to_live
)  # fmt: skip
TCP_OPENS_GOOD = _named(truncated, many, bytewise, forgery_first)
TCP_BROKEN = _named(ends_too_soon, empty_message, tiny_message)
PLAYS = {**FORGED, **BROKEN, **OPENS_NOTHING, **OPENS_GOOD, **TCP_OPENS_GOOD, **TCP_BROKEN}
_THEN = "-then-good"


def acts(asked: Question) -> Iterator[Act]:
    play = PLAYS.get(asked.play.removesuffix(_THEN))
    if play is not None:
        yield from play(asked)
    if play is None or asked.play.endswith(_THEN):
        yield Pause(0.05)
        yield Send(good(asked))


def read(query: bytes, tcp: bool) -> Question:
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode("latin-1").lower())
        at += 1 + length
    wire = query[12 : at + 5]
    number = int.from_bytes(query[:2], "big")
    addresses = [IPv4Address(label.replace("-", ".")).packed for label in labels[1:3] if label.count("-") == 3]
    first, second, *_ = [*addresses, bytes(4), bytes(4)]
    return Question(number, ".".join(labels), wire, first, second, tcp)


class Server:
    """One address of ours, and one of somebody else."""

    def __init__(self, address: str, other: str) -> None:
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((address, PORT))
        self._places = {"asked": self.udp, "port": socket.socket(socket.AF_INET, socket.SOCK_DGRAM)}
        self._places["port"].bind((address, OTHER_PORT))
        self._places["address"] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._places["address"].bind((other, PORT))
        self.tcp = socket.create_server((address, PORT), backlog=128)

    def serve_udp(self) -> None:
        while True:
            query, client = self.udp.recvfrom(65535)
            threading.Thread(target=self._answer, args=(query, client), daemon=True).start()

    def _answer(self, query: bytes, client: tuple[str, int]) -> None:
        asked = read(query, tcp=False)
        print("udp", asked.text, client[0], client[1], flush=True)
        for act in acts(asked):
            if isinstance(act, Pause):
                time.sleep(act.seconds)
            else:
                to = (client[0], client[1] ^ 1) if act.to_other else client
                self._places[act.place].sendto(act.message, to)

    def serve_tcp(self) -> None:
        while True:
            connection, _ = self.tcp.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(2):
                asked = read(stream.read(int.from_bytes(head, "big")), tcp=True)
                print("tcp", asked.text, flush=True)
                for act in acts(asked):
                    if isinstance(act, Pause):
                        time.sleep(act.seconds)
                        continue
                    data = act.message if act.raw else len(act.message).to_bytes(2, "big") + act.message
                    connection.sendall(data)
                if asked.play in TCP_BROKEN:
                    return


def main(address: str, other: str) -> None:
    server = Server(address, other)
    threading.Thread(target=server.serve_tcp, daemon=True).start()
    print("listening on", address, flush=True)
    server.serve_udp()


if __name__ == "__main__":
    main(*sys.argv[1:])
