"""Probe files: requests between pods and what must come of them.

title: text
probes:
- name: text                                   what this shows
  from: NAMESPACE/POD | world | node           where it runs
  request: METHOD URL | TCP HOST:PORT          {NAMESPACE/POD} or {world/NAME} stand for an address
           | PRODUCE kafka://HOST:PORT/TOPIC | CONSUME kafka://HOST:PORT/TOPIC
           | LOOKUP [tcp] NAME [TYPE] [@SERVER]    of the cluster's DNS, or of the server at that address
  ip: 4 | 6                                    default 4
  data: text                                   body; the record to produce, or the one that must be among those consumed
  expect: STATUS | kafka CODE | timeout | connected | refused | reset | unresolved
          | answers | answers ADDRESS | nxdomain | servfail    of lookups, as are refused and timeout

CODE is Kafka's error code: 0 for a record that was written or read, 29 for TOPIC_AUTHORIZATION_FAILED.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.lab.located import Document, read_documents

OUTCOMES = ("timeout", "connected", "refused", "reset", "unresolved")
LOOKUP_OUTCOMES = ("answers", "answers ADDRESS", "refused", "nxdomain", "servfail", "timeout")
_KEYS = {"name", "from", "request", "ip", "data", "expect"}
_HTTP = re.compile(r"([A-Z]+) (https?://\S+)")
_TCP = re.compile(r"TCP (\S+):(\d+)")
_KAFKA = re.compile(r"(PRODUCE|CONSUME) (kafka://[^/\s]+:\d+/[\w.-]+)", re.ASCII)
_LOOKUP = re.compile(r"LOOKUP ((?:tcp )?[^\s@]+(?: (?:[A-Z]+|TYPE\d+))?(?: @\S+)?)")
_STATUS = re.compile(r"[1-5]\d\d")
_KAFKA_OUTCOME = re.compile(r"kafka -?\d+")
_ANSWER = re.compile(r"answers(?: [\da-f.:]+)?|refused|nxdomain|servfail|timeout")
_PLACE = re.compile(r"\{([^{}\s]+)\}")
_REQUESTS = (
    "METHOD URL, TCP HOST:PORT, PRODUCE or CONSUME kafka://HOST:PORT/TOPIC, or LOOKUP [tcp] NAME [TYPE] [@SERVER]"
)


@dataclass(frozen=True, slots=True)
class Probe:
    """One request. `target` is HOST:PORT for the method TCP, what a lookup asks for with LOOKUP, and else a URL."""

    name: str
    source: str
    method: str
    target: str
    expect: str
    ip: int = 4
    data: str = ""
    where: str = ""

    @property
    def request(self) -> str:
        return f"{self.method} {self.target}"

    @property
    def is_kafka(self) -> bool:
        return self.target.startswith("kafka://")

    @property
    def is_lookup(self) -> bool:
        return self.method == "LOOKUP"

    def resolved(self, address_of: Callable[[str, int], str]) -> str:
        """The target with addresses in the place of {...}; IPv6 ones in brackets."""

        def address(match: re.Match[str]) -> str:
            text = address_of(match[1], self.ip)
            return f"[{text}]" if ":" in text else text

        return _PLACE.sub(address, self.target)


@dataclass(frozen=True, slots=True)
class ProbeFile:
    title: str
    probes: tuple[Probe, ...]


def read_probes(file: Path) -> ProbeFile:
    documents = list(read_documents(file))
    if len(documents) != 1:
        raise documents[1].error("one document is expected") if documents else FileNotFoundError(file)
    document = documents[0]
    title: str = document.need("title", kind=str)
    count = len(document.need("probes", kind=list))
    return ProbeFile(title, tuple(_probe(document, index) for index in range(count)))


def _probe(document: Document, index: int) -> Probe:
    path = ("probes", index)
    unknown = set(document.need(*path, kind=dict)) - _KEYS
    if unknown:
        raise document.error(f"unknown key {', '.join(sorted(map(str, unknown)))}", *path)
    method, target = _request(document, path)
    expect = str(document.need(*path, "expect", kind=(int, str)))
    _check_expectation(document, path, expect, method, target)
    ip = document.get(*path, "ip", kind=int, default=4)
    if ip not in (4, 6):
        raise document.error("ip is 4 or 6", *path, "ip")
    return Probe(
        name=document.need(*path, "name", kind=str),
        source=document.need(*path, "from", kind=str),
        method=method,
        target=target,
        expect=expect,
        ip=ip,
        data=document.get(*path, "data", kind=str, default=""),
        where=document.where(*path),
    )


def _check_expectation(document: Document, path: tuple[str | int, ...], expect: str, method: str, target: str) -> None:
    if method == "LOOKUP":
        fits, hint = _ANSWER.fullmatch(expect) is not None, ", ".join(LOOKUP_OUTCOMES)
    else:
        status = _KAFKA_OUTCOME if target.startswith("kafka://") else _STATUS
        fits, hint = expect in OUTCOMES or status.fullmatch(expect) is not None, f"a status, {', '.join(OUTCOMES)}"
    if not fits:
        raise document.error(f"{expect!r} cannot be expected", *path, "expect", hint=hint)


def _request(document: Document, path: tuple[str | int, ...]) -> tuple[str, str]:
    """Method and target."""
    request: str = document.need(*path, "request", kind=str)
    if match := _TCP.fullmatch(request):
        return "TCP", f"{match[1]}:{match[2]}"
    if match := _LOOKUP.fullmatch(request):
        return "LOOKUP", match[1]
    if match := _KAFKA.fullmatch(request) or _HTTP.fullmatch(request):
        return match[1], match[2]
    raise document.error(f"{request!r} is no request", *path, "request", hint=_REQUESTS)
