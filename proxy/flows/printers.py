"""Flows for people and for programs: compact, dict, table and JSON lines, as `hubble observe` prints them.

Everything that comes from the wire passes `clean` before it is coloured: a path cannot move the cursor, forge a line
or reverse the text of a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TextIO

from proxy.flows.jsonpb import encode_line
from proxy.flows.model import Endpoint, Flow, LostEvents, Observation, Service, Verdict
from proxy.flows.reasons import identity_text
from proxy.flows.summary import deciding_policies, summary, type_word, verdict_word
from proxy.flows.table import render
from proxy.flows.times import TimeFormat, format_time

# C0 and C1 controls, DEL, and the characters that reorder text (Unicode UAX #9), line separators, lone surrogates.
_HOSTILE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SPELLED: Final = {"\x1b": "^[", "\r": "\\r", "\n": "\\n", "\t": "\\t"}
_SEPARATOR: Final = "------------"


class Output(StrEnum):
    COMPACT = "compact"
    DICT = "dict"
    TABLE = "table"
    JSON = "json"


class Colour(StrEnum):
    RED = "\x1b[31m"
    GREEN = "\x1b[32m"
    YELLOW = "\x1b[33m"
    MAGENTA = "\x1b[35m"
    CYAN = "\x1b[36m"


_RESET: Final = "\x1b[0m"
_VERDICT_COLOURS: Final = {
    Verdict.FORWARDED: Colour.GREEN,
    Verdict.REDIRECTED: Colour.GREEN,
    Verdict.DROPPED: Colour.RED,
    Verdict.ERROR: Colour.RED,
    Verdict.AUDIT: Colour.YELLOW,
    Verdict.TRACED: Colour.YELLOW,
    Verdict.TRANSLATED: Colour.YELLOW,
}


@dataclass(frozen=True, slots=True)
class Style:
    """What the formatting flags ask for. `why` is ours: it appends the deciding rule and its reason."""

    output: Output = Output.COMPACT
    colour: bool = False
    time_format: TimeFormat = TimeFormat.STAMP_MILLI
    node_name: bool = False
    policy_names: bool = False
    translate: bool = True
    why: bool = False


def clean(text: str) -> str:
    """`text` without anything that a terminal would act on."""
    return _HOSTILE.sub(_spell, text)


def _spell(match: re.Match[str]) -> str:
    character = match.group()
    spelled = _SPELLED.get(character)
    if spelled:
        return spelled
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def why(flow: Flow) -> str:
    """The deciding rule, where it stands, and the reason: `web/api ingress[0] web.yaml:12: path …`; may be empty."""
    deciding = flow.deciding
    names = ", ".join(f"{p.namespace}/{p.name}" if p.namespace else p.name for p in deciding_policies(flow))
    if deciding is None:
        return names
    where = f"{deciding.file}:{deciding.line}" if deciding.line else deciding.file
    if deciding.default_deny:
        names = f"default deny of {names}" if names else "default deny"
    place = " ".join(part for part in (names, deciding.rule, where) if part)
    return ": ".join(part for part in (place, deciding.reason) if part)


class Printer:
    """Writes observations to `out`. A table is written on `close`, since its columns depend on all rows."""

    def __init__(self, out: TextIO, style: Style) -> None:
        self._out = out
        self._style = style
        self._rows: list[tuple[str, ...]] = []
        self._printed = False
        self._write: Callable[[Observation], None] = {
            Output.COMPACT: self._compact,
            Output.DICT: self._dict,
            Output.TABLE: self._table,
            Output.JSON: self._json,
        }[style.output]

    def write(self, observation: Observation) -> None:
        self._write(observation)

    def close(self) -> None:
        if self._rows:
            node = ("NODE",) if self._style.node_name else ()
            header = ("TIMESTAMP", *node, "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY")
            self._out.writelines(f"{line}\n" for line in render([header, *self._rows], min_width=2))
            self._rows.clear()

    def _json(self, observation: Observation) -> None:
        self._out.write(f"{encode_line(observation)}\n")

    def _compact(self, observation: Observation) -> None:
        time = format_time(observation.time_ns, self._style.time_format)
        node = f" [{clean(observation.node_name)}]" if self._style.node_name else ""
        body = _lost_text(observation) if isinstance(observation, LostEvents) else self._compact_flow(observation)
        self._out.write(f"{time}{node}: {body}\n")

    def _compact_flow(self, flow: Flow) -> str:
        source, destination = self._hosts(flow)
        source = f"{source} {self._paint(identity_text(flow.source.identity), Colour.MAGENTA)}"
        destination = f"{destination} {self._paint(identity_text(flow.destination.identity), Colour.MAGENTA)}"
        arrow = "<>" if flow.is_reply is None else "->"
        if flow.is_reply:
            source, arrow, destination = destination, "<-", source
        reason = f" [{clean(why(flow))}]" if self._style.why and why(flow) else ""
        line = f"{source} {arrow} {destination} {clean(type_word(flow))} {self._verdict(flow)}"
        return f"{line} ({clean(summary(flow))}){reason}"

    def _dict(self, observation: Observation) -> None:
        fields = [("TIMESTAMP", format_time(observation.time_ns, self._style.time_format))]
        if self._style.node_name:
            fields.append(("NODE", clean(observation.node_name)))
        if isinstance(observation, LostEvents):
            fields += [("TYPE", "EVENTS LOST"), ("SUMMARY", _lost_summary(observation))]
        else:
            source, destination = self._hosts(observation)
            fields += [("SOURCE", source), ("DESTINATION", destination), ("TYPE", clean(type_word(observation)))]
            fields += [("VERDICT", self._verdict(observation)), ("SUMMARY", clean(summary(observation)))]
            if self._style.why and why(observation):
                fields.append(("WHY", clean(why(observation))))
        if self._printed:
            self._out.write(f"{_SEPARATOR}\n")
        self._printed = True
        self._out.writelines(f"{key:>11}: {value}\n" for key, value in fields)

    def _table(self, observation: Observation) -> None:
        row = [format_time(observation.time_ns, self._style.time_format)]
        if self._style.node_name:
            row.append(clean(observation.node_name))
        if isinstance(observation, LostEvents):
            row += ["", "", "EVENTS LOST", "", _lost_summary(observation)]
        else:
            word = clean(verdict_word(observation, self._style.policy_names))
            row += [*self._hosts(observation), clean(type_word(observation)), word, clean(summary(observation))]
        self._rows.append(tuple(row))

    def _hosts(self, flow: Flow) -> tuple[str, str]:
        ip, l4 = flow.ip, flow.l4
        source = self._host(flow.source, flow.source_service, flow.source_names, ip.source if ip else "")
        destination = self._host(
            flow.destination, flow.destination_service, flow.destination_names, ip.destination if ip else ""
        )
        return self._with_port(source, l4.source_port if l4 else 0), self._with_port(
            destination, l4.destination_port if l4 else 0
        )

    def _host(self, endpoint: Endpoint, service: Service | None, names: tuple[str, ...], address: str) -> str:
        if self._style.translate:
            if endpoint.pod_name:
                return f"{endpoint.namespace}/{endpoint.pod_name}" if endpoint.namespace else endpoint.pod_name
            if service and service.name:
                return f"{service.namespace}/{service.name}" if service.namespace else service.name
            if names:
                return ",".join(names)
        return address

    def _with_port(self, host: str, port: int) -> str:
        host = clean(host)
        if not port:
            return self._paint(host, Colour.CYAN)
        # Neither pod names nor host names hold a colon, so what does is an IPv6 address.
        shown = f"[{host}]" if ":" in host else host
        return f"{self._paint(shown, Colour.CYAN)}:{self._paint(str(port), Colour.YELLOW)}"

    def _verdict(self, flow: Flow) -> str:
        word = clean(verdict_word(flow, self._style.policy_names))
        colour = _VERDICT_COLOURS.get(flow.verdict)
        return self._paint(word, colour) if colour else word

    def _paint(self, text: str, colour: Colour) -> str:
        return f"{colour}{text}{_RESET}" if self._style.colour and self._style.output is not Output.TABLE else text


def _lost_text(lost: LostEvents) -> str:
    cpu = f" CPU({lost.cpu})" if lost.cpu is not None else " CPU(0)"
    return f"EVENTS LOST: {lost.source.name}{cpu} {lost.count}"


def _lost_summary(lost: LostEvents) -> str:
    return f"CPU({lost.cpu or 0}) - {lost.count}"
