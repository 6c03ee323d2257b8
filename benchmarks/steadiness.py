"""Rounds that differ a lot were not about the subjects."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.report import Row

STEADY = 0.7


def doubts(rows: Sequence[Row]) -> list[str]:
    """A note if there are such rows. Each has `min_per_s` and `max_per_s`."""
    unsteady = [row for row in rows if row.metrics["min_per_s"] < STEADY * row.metrics["max_per_s"]]
    if not unsteady:
        return []
    return [
        f"NOT STEADY: in {len(unsteady)} of {len(rows)} rows the slowest round has less than {STEADY:.0%} of the",
        "fastest one's rate. Something else was running; measure again.",
    ]
