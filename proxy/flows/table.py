"""Columns that line up: cells padded as a tab writer does, so that tables look like those people know.

Stands here because both the flow printers and the CLI use it.
"""

from __future__ import annotations

from collections.abc import Sequence


def render(rows: Sequence[Sequence[str]], min_width: int = 5, pad: int = 3) -> list[str]:
    """Lines of a table. Each column is as wide as its widest cell plus `pad`; the last one is not padded."""
    columns = max((len(row) for row in rows), default=0)
    widths = [0] * columns
    for row in rows:
        for index, cell in enumerate(row):
            widths[index] = max(widths[index], len(cell) + pad, min_width)
    return ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip() for row in rows]
