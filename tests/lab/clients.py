"""Programs as clients in a pod, and what they tell of each request."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.support import Node

CLIENT = "shop/client"
_TOLD = "%{stderr}%{json}%{header_json}\n"
_STATISTICS = re.compile(r"^ *\d+ +\+\S+ +\+\S+ +\S+ +(\d{3}) +\S+ (/.*)$", re.MULTILINE)
PATIENCE_S = 60
"""How long a program may take for all of its requests."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One request of curl. `status` 0: there was no answer; `error` is curl's exit code then."""

    url: str
    status: int
    version: str
    port: int
    connects: int
    uploaded: int
    error: int
    headers: dict[str, str]
    connect_status: int


class Curl:
    """Runs curl in a pod. Transfers are in the order in which they ended."""

    def __init__(self, node: Node, *arguments: str, source: str = CLIENT, sent: bytes | None = None) -> None:
        command = ["curl", "--silent", "--max-time", str(PATIENCE_S), "--write-out", _TOLD, *arguments]
        done = node.lab.exec(source, command, text=False, input=sent or b"")
        self.exit_code = done.returncode
        self.body: bytes = done.stdout
        self.transfers = list(_transfers(done.stderr.decode()))

    @property
    def only(self) -> Transfer:
        assert len(self.transfers) == 1
        return self.transfers[0]


def _transfers(text: str) -> Iterator[Transfer]:
    """From pairs of JSON texts: what curl tells of a request, and the headers of its answer."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        told, end = decoder.raw_decode(text)
        headers, length = decoder.raw_decode(text[end:])
        text = text[end + length :]
        yield Transfer(
            told["url"],
            told["http_code"],
            told["http_version"],
            told["local_port"],
            told["num_connects"],
            told["size_upload"],
            told["exitcode"],
            {name: ", ".join(values) for name, values in headers.items()},
            told["http_connect"],
        )


def nghttp(node: Node, *arguments: str) -> tuple[dict[str, int], str]:
    """(path → status, all that was said). All requests share one connection.

    curl of Debian 12 can not use one of HTTP/2 in clear text twice, and loses answers that come before its body ends.
    """
    done = node.lab.exec(CLIENT, ["nghttp", "--stat", "--verbose", *arguments], timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return {path: int(status) for status, path in _STATISTICS.findall(done.stdout)}, done.stdout


def peak_kib(pid: int) -> int:
    """The most memory that a process has had."""
    return _kib(pid, "VmHWM")


def resident_kib(pid: int) -> int:
    return _kib(pid, "VmRSS")


def _kib(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])
