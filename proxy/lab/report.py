"""The demo's table: probe, expected, seen, latency, deciding rule. Colours on a terminal, plain text elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from proxy.lab.prober import Result

_HEADER = ("PROBE", "REQUEST", "EXPECTED", "SEEN", "LATENCY", "DECIDED BY")
_GAP = 2


@dataclass(frozen=True, slots=True)
class Row:
    """One probe's line."""

    result: Result
    decided_by: str


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    rows: tuple[Row, ...]


def wants_colour(stream: TextIO) -> bool:
    """A terminal, unless NO_COLOR (no-color.org) says no."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def render(sections: Sequence[Section], colour: bool, width: int = 0) -> Iterable[str]:
    """The lines of the table; all sections share the widths of their columns.

    `width` 0 is endless. A table that is wider goes without the requests, and its last column is cut.
    """
    cells = [_cells(row) for section in sections for row in section.rows]
    widths = [max(map(len, column)) for column in zip(_HEADER, *cells, strict=True)]
    shown = list(range(len(_HEADER)))
    if width and sum(widths) + _GAP * (len(widths) - 1) > width:
        shown.remove(_HEADER.index("REQUEST"))
        widths[-1] = max(10, width - sum(widths[index] + _GAP for index in shown[:-1]))
    yield _style(_line(_HEADER, widths, shown), "1", colour)
    for section in sections:
        yield _style(section.title, "1;36", colour)
        for row in section.rows:
            yield _line(_cells(row), widths, shown, _code(row.result) if colour else "")


def _cells(row: Row) -> tuple[str, ...]:
    result = row.result
    probe = result.probe
    latency = "-" if result.latency_ms is None else f"{result.latency_ms:.1f} ms"
    request = f"{probe.source} {probe.method} {probe.target.removeprefix('http://')}{' (v6)' if probe.ip == 6 else ''}"
    seen = result.seen if result.is_expected else f"{result.seen} !"
    return (f"  {probe.name}", request, probe.expect, seen, latency, row.decided_by)


def _line(cells: Sequence[str], widths: Sequence[int], shown: Sequence[int], seen_code: str = "") -> str:
    """Padded cells; only SEEN has a colour."""
    padded = []
    for index in shown:
        name, text = _HEADER[index], cells[index]
        if len(text) > widths[index]:
            text = f"{text[: widths[index] - 1]}…"
        text = text.rjust(widths[index]) if name == "LATENCY" else text.ljust(widths[index])
        padded.append(_style(text, seen_code, bool(seen_code) and name == "SEEN"))
    return (" " * _GAP).join(padded).rstrip()


def _code(result: Result) -> str:
    """Green: as expected and answered; yellow: as expected and refused; red: not as expected."""
    if not result.is_expected:
        return "1;31"
    answered = result.seen in {"200", "connected", "kafka 0"} or result.seen.startswith("answers")
    return "32" if answered else "33"


def _style(text: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text


def summary(sections: Sequence[Section], colour: bool) -> str:
    results = [row.result for section in sections for row in section.rows]
    wrong = sum(not result.is_expected for result in results)
    if wrong:
        return _style(f"{wrong} of {len(results)} probes did not come out as expected", "1;31", colour)
    return _style(f"all {len(results)} probes came out as expected", "1;32", colour)
