"""Tasks that are named, kept and accounted for: the only place that starts one.

A task that ends by an exception nobody caught is logged with its name and counted; whoever must not live without
it is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

RESTART_DELAY_S = 1.0


class Supervisor:
    """Keeps a reference to every running task. `crashes` counts those that ended by an unexpected exception."""

    def __init__(self) -> None:
        self.crashes = 0
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    def start(
        self, name: str, work: Coroutine[Any, Any, None], on_crash: Callable[[BaseException], None] | None = None
    ) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, on_crash))
        return task

    def _ended(self, task: asyncio.Task[None], on_crash: Callable[[BaseException], None] | None) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            return
        self.crashes += 1
        log.error("task %s crashed", task.get_name(), exc_info=error)
        if on_crash is not None:
            on_crash(error)

    def keep(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run what `make` makes for as long as the supervisor lives: after a crash it is made anew."""

        def again(_: BaseException) -> None:
            asyncio.get_running_loop().call_later(RESTART_DELAY_S, self.keep, name, make)

        if not self._stopped:
            self.start(name, make(), again)

    async def stop(self) -> None:
        """Cancel all tasks and wait for them."""
        self._stopped = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
