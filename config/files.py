"""Which files of a folder are policy files.

Names that begin with a dot are skipped: editors keep their copies there, and a ConfigMap its versions (`..data`), to
which the names that count are links.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = frozenset((".yaml", ".yml", ".json"))
MAX_FOLDER_DEPTH = 16


def policy_files(folder: Path) -> list[Path]:
    """All policy files below `folder`, sorted. Raises OSError if a folder cannot be listed."""
    return sorted(_walk(folder, frozenset(), MAX_FOLDER_DEPTH))


def _walk(folder: Path, above: frozenset[tuple[int, int]], depth: int) -> Iterator[Path]:
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above or not depth:
        # A link back to a folder above: its files are known already.
        return
    with os.scandir(folder) as items:
        entries = sorted(items, key=lambda item: item.name)
    for item in entries:
        if item.name.startswith("."):
            continue
        path = folder / item.name
        if item.is_dir():
            yield from _walk(path, above | {here}, depth - 1)
        elif path.suffix in SUFFIXES:
            yield path
