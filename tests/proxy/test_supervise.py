"""Tasks are kept, and their crashes told."""

from __future__ import annotations

import asyncio

import pytest

from proxy.supervise import Supervisor


@pytest.mark.asyncio
async def test_a_crash_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async def crash() -> None:
        raise ValueError("boom")

    told: list[BaseException] = []
    supervisor = Supervisor()
    with pytest.raises(ValueError, match="boom"):
        await supervisor.start("doomed", crash(), told.append)
    await asyncio.sleep(0)
    assert supervisor.crashes == 1
    assert [str(error) for error in told] == ["boom"]
    assert "doomed" in caplog.text


@pytest.mark.asyncio
async def test_stop_cancels_and_waits() -> None:
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    supervisor = Supervisor()
    supervisor.start("endless", endless())
    await asyncio.sleep(0)
    await supervisor.stop()
    assert ended.is_set()
    assert supervisor.crashes == 0
