"""Probe files: requests between pods and what must come of them.

title: text
probes:
- name: text                                   what this shows
  from: NAMESPACE/POD | world | node           where it runs
  request: METHOD URL | TCP HOST:PORT          {NAMESPACE/POD} or {world/NAME} stand for an address
  ip: 4 | 6                                    default 4
  data: text                                   body
  expect: STATUS | timeout | connected | refused | reset | unresolved
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from proxy.lab.located import Document, read_documents

OUTCOMES = ("timeout", "connected", "refused", "reset", "unresolved")
_KEYS = {"name", "from", "request", "ip", "data", "expect"}
_HTTP = re.compile(r"([A-Z]+) (https?://\S+)")
_TCP = re.compile(r"TCP (\S+):(\d+)")
_PLACE = re.compile(r"\{([^{}\s]+)\}")


@dataclass(frozen=True, slots=True)
class Probe:
    """One request. `method` is TCP for a plain connection, and `target` then HOST:PORT."""

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
    request: str = document.need(*path, "request", kind=str)
    if match := _TCP.fullmatch(request):
        method, target = "TCP", f"{match[1]}:{match[2]}"
    elif match := _HTTP.fullmatch(request):
        method, target = match[1], match[2]
    else:
        raise document.error(f"{request!r} is no request", *path, "request", hint="METHOD URL, or TCP HOST:PORT")
    expect = str(document.need(*path, "expect", kind=(int, str)))
    if expect not in OUTCOMES and not re.fullmatch(r"[1-5]\d\d", expect):
        raise document.error(f"{expect!r} cannot be expected", *path, "expect", hint=f"a status, {', '.join(OUTCOMES)}")
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
