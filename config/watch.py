"""Says when to look at files again.

Events are hints only. The swap of a ConfigMap reports `..data` and never the names that count, some file systems
report nothing at all, and a burst of events may be lost; so no event is filtered, and a rescan comes in any case.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

from watchfiles import awatch

DEBOUNCE_MS = 400
"""A burst of changes is reported once, after this time at the latest …"""

SETTLE_MS = 40
"""… or when nothing happened for this long: a file that is being written is not read in the middle."""


async def changes(paths: Iterable[Path], rescan_interval_s: float) -> AsyncIterator[None]:
    """Yields after each burst of changes below `paths`, and at least every `rescan_interval_s`. Ends when cancelled."""
    wanted = list(paths)
    while True:
        # A file is watched through its folder: editors replace files, and a watch on the old one would be lost.
        folders = {path if path.is_dir() else path.parent for path in wanted}
        present = sorted(folder for folder in folders if folder.is_dir())
        async for _ in _bursts(present, rescan_interval_s):
            yield None
            if {folder for folder in folders if folder.is_dir()} != set(present):
                break


async def _bursts(folders: list[Path], rescan_interval_s: float) -> AsyncIterator[None]:
    """Events of `folders` and timeouts alike."""
    if not folders:
        await asyncio.sleep(rescan_interval_s)
        yield None
        return
    watcher = awatch(
        *folders,
        watch_filter=None,
        debounce=DEBOUNCE_MS,
        step=SETTLE_MS,
        rust_timeout=max(1, int(rescan_interval_s * 1000)),
        yield_on_timeout=True,
        ignore_permission_denied=True,
    )
    async for _ in watcher:
        yield None
