"""What every benchmark ends in: rows of figures and ratios, as a table and as `benchmarks/out/NAME.json`.

    {"name": "http1",
     "rows": [{"subject": "penstock", "case": "keep-alive-64", "requests_per_s": 71000.0, "p50_us": 880.0, …}],
     "ratios": {"keep-alive-64 penstock/envoy rps": 3.1, …}}

The name of a metric ends in its unit, so that a reader of the file needs nothing else. A figure that a subject does
not have (no proxy uses no CPU) is absent from its row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OUT = Path(__file__).resolve().parent / "out"

UNITS = {
    "_per_s": "/s",
    "_us_per_request": "µs",
    "_us": "µs",
    "_ms": "ms",
    "_ns": "ns",
    "_mib": "MiB",
    "_percent": "%",
    "_count": "",
}
_SIGNIFICANT_BELOW = 100.0


def unit_of(metric: str) -> str:
    """The unit that a metric's name ends in. A name without one is a mistake of the benchmark."""
    for suffix, unit in UNITS.items():
        if metric.endswith(suffix) and metric != suffix:
            return unit
    raise ValueError(f"the metric {metric!r} does not end in a unit ({', '.join(UNITS)})")


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one subject in one case, in the order they are to be shown."""

    subject: str
    case: str
    metrics: Mapping[str, float]

    def __post_init__(self) -> None:
        for metric in self.metrics:
            unit_of(metric)

    def to_json(self) -> dict[str, str | float]:
        return {"subject": self.subject, "case": self.case, **{k: round(v, 3) for k, v in self.metrics.items()}}


@dataclass(frozen=True, slots=True)
class Ratio:
    """A metric to compare subjects by; `short` names it in the ratios."""

    metric: str
    short: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of one benchmark. `notes` are printed below the tables: how to read them."""

    name: str
    rows: Sequence[Row]
    ratios: Mapping[str, float]
    notes: Sequence[str] = field(default=())

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "rows": [row.to_json() for row in self.rows],
            "ratios": {name: round(value, 3) for name, value in self.ratios.items()},
        }

    def write(self, folder: Path = OUT) -> Path:
        """Write NAME.json whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        temporary = folder / f".{self.name}.json"
        temporary.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
        return path

    def text(self) -> str:
        """The tables: figures by case, then one line of ratios per comparison."""
        parts = [_table(*_figures(self.rows))]
        if self.ratios:
            parts.append(_table(*_comparisons(self.ratios)))
        parts += [f"  {note}" for note in self.notes]
        return "\n".join(parts)


def compare(rows: Iterable[Row], subject: str, peers: Sequence[str], by: Sequence[Ratio]) -> dict[str, float]:
    """`CASE subject/peer short` → how many times the peer's figure the subject's is, where both have one."""
    figures = {(row.case, row.subject): row.metrics for row in rows}
    ratios = {}
    for case in dict.fromkeys(case for case, _ in figures):
        for peer in peers:
            for ratio in by:
                ours = figures.get((case, subject), {}).get(ratio.metric)
                theirs = figures.get((case, peer), {}).get(ratio.metric)
                if ours is not None and theirs:
                    ratios[f"{case} {subject}/{peer} {ratio.short}"] = ours / theirs
    return ratios


def _figures(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    header = ["case", "subject", *(_title(metric) for metric in metrics)]
    lines: list[list[str]] = []
    case = ""
    for row in rows:
        if lines and row.case != case:
            lines.append([])
        shown = "" if row.case == case else row.case
        case = row.case
        values = [_number(row.metrics[metric]) if metric in row.metrics else "-" for metric in metrics]
        lines.append([shown, row.subject, *values])
    return header, lines


def _comparisons(ratios: Mapping[str, float]) -> tuple[list[str], list[list[str]]]:
    """`CASE A/B SHORT` keys as a table: a line per case and pair, a column per SHORT."""
    table: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in ratios.items():
        case, pair, short = name.split(" ")
        table.setdefault((case, pair), {})[short] = value
    shorts = list(dict.fromkeys(short for line in table.values() for short in line))
    lines: list[list[str]] = []
    last = ""
    for (case, pair), values in table.items():
        if lines and case != last:
            lines.append([])
        cells = [f"{values[short]:.2f} x" if short in values else "-" for short in shorts]
        lines.append(["" if case == last else case, pair, *cells])
        last = case
    return ["case", "ratio", *shorts], lines


def _title(metric: str) -> str:
    suffix = next(suffix for suffix in UNITS if metric.endswith(suffix))
    words = metric.removesuffix(suffix).replace("_", " ")
    unit = unit_of(metric)
    if suffix == "_us_per_request":
        return f"{words} {unit}/request"
    return f"{words}{unit}" if unit == "/s" else f"{words} {unit}".rstrip()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= _SIGNIFICANT_BELOW else f"{value:.1f}"


def _table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Two columns of text on the left, figures on the right; an empty line stays empty."""
    widths = [max(len(row[i]) for row in (header, *lines) if row) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        padded = (c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True)))
        return ("  " + "  ".join(padded)).rstrip()

    rule = "  " + "  ".join("-" * width for width in widths)
    return "\n".join([line(header), rule, *(line(row) if row else "" for row in lines), ""])
