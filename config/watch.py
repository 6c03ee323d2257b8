"""Says when to look at files again.

Events are hints only. The swap of a ConfigMap reports `..data` and never the names that count, some file systems
report nothing at all, a burst of events may be lost, and a folder that is replaced takes its watch along; so names are
not filtered, folders are compared with what was watched, and a rescan comes in any case.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

log = logging.getLogger("penstock.watch")

DEBOUNCE_MS = 400
"""A burst of changes is reported once, after this time at the latest …"""

SETTLE_MS = 25
"""… or when nothing happened for this long: a file that is being written is not read in the middle."""

COMPARE_S = 1.0
"""How often the watched folders are compared with those that have their names now."""

_Folder = tuple[int, int]


CONFIRM_S = 1.0
"""So long after a burst that named files, everything is looked at, because events may have been lost."""

Burst = frozenset[Path]


async def changes(paths: Iterable[Path], rescan_interval_s: float) -> AsyncIterator[Burst | None]:
    """Yields after each burst of changes below `paths`, and at least every `rescan_interval_s`. Ends when cancelled.

    A burst is what changed as far as events tell; None says that everything is to be looked at.
    """
    wanted = list(paths)
    loop = asyncio.get_running_loop()
    due = latest = loop.time() + rescan_interval_s
    while True:
        watched = _folders(wanted)
        async with aclosing(_wakes(sorted(watched), min(COMPARE_S, rescan_interval_s))) as wakes:
            async for burst in wakes:
                happened = frozenset(path for path in burst if _concerns(path, wanted))
                replaced = _folders(wanted) != watched
                if replaced or loop.time() >= due:
                    due = latest = loop.time() + rescan_interval_s
                    yield None
                elif happened:
                    due = min(latest, loop.time() + CONFIRM_S)
                    yield happened
                if replaced:
                    break


def _concerns(path: Path, wanted: Iterable[Path]) -> bool:
    """Watches reach into all folders below. What lies deeper than a wanted file is not about it."""
    return any(path.is_relative_to(item) or path.parent == item.parent for item in wanted)


def _folders(paths: Iterable[Path]) -> dict[Path, _Folder]:
    """What must be watched, and which folder that is. A file is watched through its folder: editors replace files."""
    found: dict[Path, _Folder] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        try:
            status = os.stat(folder)
        except OSError:
            continue
        found[folder] = (status.st_dev, status.st_ino)
    return found


async def _wakes(folders: list[Path], pause_s: float) -> AsyncGenerator[Burst, None]:
    """The files of a burst of events; none after `pause_s` without any."""
    if folders:
        watcher = awatch(
            *folders,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=SETTLE_MS,
            rust_timeout=max(1, int(pause_s * 1000)),
            yield_on_timeout=True,
            ignore_permission_denied=True,
        )
        try:
            async with aclosing(watcher):
                async for events in watcher:
                    yield frozenset(Path(path) for _, path in events)
        except (OSError, RuntimeError) as problem:  # the library's own error is a RuntimeError
            # No watches left, or a folder went away meanwhile: rescans find changes all the same.
            log.warning("policy files are not watched but looked at regularly: %s", problem)
    while True:
        await asyncio.sleep(pause_s)
        yield frozenset()
