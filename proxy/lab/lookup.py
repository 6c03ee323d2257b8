"""Ask a DNS server one question: a probe of DNS rules, with a client of our own that says what exactly came back.

    python -m proxy.lab.lookup NAME [TYPE] --server ADDRESS [--tcp] [--timeout S] [--local-ports A-B]

Prints one JSON object: {"outcome": "answers" | "no data" | "truncated" | "refused" | "nxdomain" | "servfail" |
"timeout" | ..., "addresses", "local_port", "time_total"}. The name is asked for as it is, without a search list, and
once: nothing is sent again. Messages are those of RFC 1035 §4.1, over UDP or TCP.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass
from ipaddress import ip_address

from proxy.lab.dial import bind_free

PORT = 53
TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "HTTPS": 65}
RCODES = {0: "answers", 1: "formerr", 2: "servfail", 3: "nxdomain", 4: "notimp", 5: "refused"}
NO_DATA, TRUNCATED = "no data", "truncated"
MOST = 65_535
"""Bytes of a message (RFC 1035 §4.2.2)."""
_HEADER = struct.Struct(">6H")
_RECORD = struct.Struct(">HHIH")  # type, class, TTL, length of the data
_RECURSION_DESIRED, _CUT, _RESPONSE = 0x0100, 0x0200, 0x8000
_IN = 1


@dataclass(frozen=True, slots=True)
class Answer:
    """What is asked of a response here. `addresses` are those of A and AAAA records of the answer section."""

    id: int
    rcode: int
    truncated: bool
    question: bytes
    records: int
    addresses: tuple[str, ...]

    @property
    def outcome(self) -> str:
        if self.truncated:
            return TRUNCATED
        if self.rcode == 0 and not self.records:
            return NO_DATA
        return RCODES.get(self.rcode, f"rcode {self.rcode}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcome` is a word of the probe files, but for `answers ADDRESS`; `time_total` is in seconds."""

    outcome: str
    addresses: tuple[str, ...] = ()
    local_port: int = 0
    time_total: float = 0.0
    detail: str = ""


def type_number(name: str) -> int:
    """Of a type's mnemonic, or TYPEn (RFC 3597 §5)."""
    return TYPES[name] if name in TYPES else int(name.removeprefix("TYPE"))


def question(name: str, kind: str = "A") -> bytes:
    """Wire bytes of a question; the case of letters is kept."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".") if label]
    wire = b"".join(bytes([len(label)]) + label for label in labels)
    return wire + b"\0" + struct.pack(">HH", type_number(kind), _IN)


def query(asked: bytes, number: int, additional: bytes = b"") -> bytes:
    """A query for the question, with the id `number`; `additional` is one record of that section, such as an OPT."""
    return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, bool(additional)) + asked + additional


def read_answer(message: bytes) -> Answer:
    """Of a response as a well-behaved server makes it. ValueError for anything that is none."""
    try:
        return _read(message)
    except (struct.error, IndexError) as error:
        raise ValueError(f"malformed: {error}") from None


def _read(message: bytes) -> Answer:
    number, flags, questions, answers, _, _ = _HEADER.unpack_from(message)
    if not flags & _RESPONSE or questions > 1:
        raise ValueError("this is no response to a question")
    at = _HEADER.size
    if questions:
        at = _after_name(message, at) + 4
    asked = message[_HEADER.size : at]
    addresses = []
    for _ in range(answers):
        at = _after_name(message, at)
        kind, _, _, length = _RECORD.unpack_from(message, at)
        at += _RECORD.size
        data = message[at : at + length]
        at += length
        if (kind, length) in ((TYPES["A"], 4), (TYPES["AAAA"], 16)):
            addresses.append(str(ip_address(data)))
    if at > len(message):
        raise ValueError("malformed: a record goes beyond the end")
    return Answer(number, flags & 0xF, bool(flags & _CUT), asked, answers, tuple(addresses))


def _after_name(message: bytes, at: int) -> int:
    """Where the name that begins at `at` ends."""
    while length := message[at]:
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return at + 1


def lookup(server: str, asked: bytes, timeout: float, local_ports: range = range(0), *, tcp: bool = False) -> Outcome:
    """Ask, and wait for an answer to exactly this question; other datagrams are passed over."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    start = time.monotonic()
    with socket.socket(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM) as connection:
        local = bind_free(connection, local_ports)
        try:
            connection.settimeout(timeout)
            connection.connect((server, PORT))
            local = local or int(connection.getsockname()[1])
            answer = _ask(connection, asked, start + timeout, tcp)
        except TimeoutError:
            return Outcome("timeout", (), local, time.monotonic() - start)
        except ConnectionRefusedError as error:
            return Outcome("closed", (), local, time.monotonic() - start, str(error))
        except (OSError, EOFError) as error:
            return Outcome("reset", (), local, time.monotonic() - start, str(error))
    return Outcome(answer.outcome, answer.addresses, local, time.monotonic() - start)


def _ask(connection: socket.socket, asked: bytes, deadline: float, tcp: bool) -> Answer:
    number = secrets.randbits(16)
    message = query(asked, number)
    connection.sendall(framed(message) if tcp else message)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        try:
            answer = read_answer(receive_framed(connection) if tcp else connection.recv(MOST))
        except ValueError:
            continue
        if answer.id == number and answer.question.lower() in (asked.lower(), b""):
            return answer


def framed(message: bytes) -> bytes:
    """As it goes over TCP (RFC 1035 §4.2.2)."""
    return len(message).to_bytes(2, "big") + message


def receive_framed(connection: socket.socket) -> bytes:
    """The next message of a TCP connection. EOFError if it ends before."""
    return _exactly(connection, int.from_bytes(_exactly(connection, 2), "big"))


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise EOFError("the connection ended")
        data += piece
    return data


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proxy.lab.lookup")
    parser.add_argument("name")
    parser.add_argument("type", nargs="?", default="A", help=f"{', '.join(TYPES)} or TYPEn")
    parser.add_argument("--server", required=True, metavar="ADDRESS")
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S")
    parser.add_argument("--local-ports", default="", metavar="A-B")
    options = parser.parse_args(arguments)
    first, _, last = options.local_ports.partition("-")
    ports = range(int(first), int(last) + 1) if last else range(0)
    found = lookup(options.server, question(options.name, options.type), options.timeout, ports, tcp=options.tcp)
    print(json.dumps(asdict(found)))
    return 0 if found.outcome == "answers" else os.EX_UNAVAILABLE


if __name__ == "__main__":
    sys.exit(main())
