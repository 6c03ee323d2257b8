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
async def test_what_is_kept_is_made_anew_after_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.supervise.RESTART_DELAY_S", 0)
    made: list[int] = []
    twice = asyncio.Event()

    async def work() -> None:
        made.append(1)
        if len(made) == 1:
            raise ValueError("boom")
        twice.set()
        await asyncio.Event().wait()

    supervisor = Supervisor()
    supervisor.keep("watch", work)
    await twice.wait()
    await supervisor.stop()
    assert (len(made), supervisor.crashes) == (2, 1)


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
