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
    return [Path(path) for path in policy_file_names(folder)]


def policy_file_names(folder: Path) -> list[str]:
    """`policy_files` as text, which is much cheaper for thousands."""
    return sorted(_walk(str(folder), frozenset(), MAX_FOLDER_DEPTH))


def is_policy_file(path: Path, folder: Path) -> bool:
    """Would `policy_files` name it, if it is there? For files, not for folders."""
    if not path.is_relative_to(folder) or path.suffix not in SUFFIXES:
        return False
    parts = path.relative_to(folder).parts
    return 0 < len(parts) <= MAX_FOLDER_DEPTH and not any(part.startswith(".") for part in parts) and not path.is_dir()


def _walk(folder: str, above: frozenset[tuple[int, int]], depth: int) -> Iterator[str]:
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
        if _is_folder(item):
            yield from _walk(item.path, above | {here}, depth - 1)
        elif os.path.splitext(item.name)[1] in SUFFIXES:
            yield item.path


def _is_folder(item: os.DirEntry[str]) -> bool:
    """A link that leads nowhere, or in a circle, is a file that cannot be read: it must not hide all the others."""
    try:
        return item.is_dir()
    except OSError:
        return False
