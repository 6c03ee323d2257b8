from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.watch import changes

NEVER_S = 600.0
PATIENCE_S = 10.0


@asynccontextmanager
async def watching(paths: list[Path], interval_s: float = NEVER_S) -> AsyncIterator[asyncio.Queue[None]]:
    """The hints that come while watching."""
    hints: asyncio.Queue[None] = asyncio.Queue()

    async def follow() -> None:
        async for _ in changes(paths, interval_s):
            hints.put_nowait(None)

    task = asyncio.ensure_future(follow())
    try:
        yield hints
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def until_noticed(hints: asyncio.Queue[None], change: Path, text: str) -> None:
    """Writes until somebody notices: the watch may not stand yet when the first text is written."""
    async with asyncio.timeout(PATIENCE_S):
        number = 0
        while hints.empty():
            number += 1
            await asyncio.to_thread(change.write_text, f"{text} {number}")
            await asyncio.sleep(0.2)


@pytest.mark.asyncio
async def test_a_change_in_a_folder(tmp_path: Path) -> None:
    async with watching([tmp_path]) as hints:
        await until_noticed(hints, tmp_path / "a.yaml", "x")


@pytest.mark.asyncio
async def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "endpoints.yaml"
    path.write_text("x")
    async with watching([path]) as hints:
        await until_noticed(hints, path, "y")
        while not hints.empty():
            hints.get_nowait()
        (tmp_path / "new").write_text("z")
        (tmp_path / "new").rename(path)
        async with asyncio.timeout(PATIENCE_S):
            await hints.get()


@pytest.mark.asyncio
async def test_a_config_map_swap(tmp_path: Path) -> None:
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_text(name)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "p.yaml").symlink_to("..data/p.yaml")
    async with watching([tmp_path]) as hints:
        async with asyncio.timeout(PATIENCE_S):
            number = 1
            while hints.empty():
                number = 3 - number
                (tmp_path / "..tmp").symlink_to(f"..{number}")
                (tmp_path / "..tmp").rename(tmp_path / "..data")
                await asyncio.sleep(0.2)


@pytest.mark.asyncio
async def test_without_any_event_there_is_a_rescan(tmp_path: Path) -> None:
    async with watching([tmp_path], 0.05) as hints, asyncio.timeout(PATIENCE_S):
        await hints.get()
        await hints.get()


@pytest.mark.asyncio
async def test_a_folder_that_comes_later(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    async with watching([folder / "x" / "p.yaml"], 0.05) as hints:
        async with asyncio.timeout(PATIENCE_S):
            await hints.get()
        (folder / "x").mkdir(parents=True)
        while not hints.empty():
            hints.get_nowait()
        await until_noticed(hints, folder / "x" / "p.yaml", "x")


@pytest.mark.asyncio
async def test_nothing_to_watch_still_rescans() -> None:
    async with watching([], 0.05) as hints, asyncio.timeout(PATIENCE_S):
        await hints.get()


@pytest.mark.asyncio
async def test_a_folder_that_is_replaced(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
    policies = tmp_path / "policies"
    policies.symlink_to("v1")
    async with watching([policies]) as hints:
        await until_noticed(hints, policies / "a.yaml", "x")
        await asyncio.sleep(0.5)
        while not hints.empty():
            hints.get_nowait()
        (tmp_path / "new").symlink_to("v2")
        (tmp_path / "new").rename(policies)
        async with asyncio.timeout(PATIENCE_S):
            await hints.get()
        while not hints.empty():
            hints.get_nowait()
        await until_noticed(hints, policies / "b.yaml", "y")
