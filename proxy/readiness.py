"""Readiness as tokens: whoever must be up before the agent is ready holds one, and says when it is.

The last token logs how long the start took. Names of tokens that are still held are shown by status and health.
"""

from __future__ import annotations

import logging
import time

log = logging.getLogger(__name__)


class Readiness:
    def __init__(self) -> None:
        self._started = time.monotonic()
        self._pending: list[str] = []

    @property
    def pending(self) -> tuple[str, ...]:
        return tuple(self._pending)

    def register(self, *names: str) -> None:
        self._pending.extend(names)

    def done(self, name: str) -> None:
        if name not in self._pending:
            return
        self._pending.remove(name)
        if not self._pending:
            log.info("ready after %.2f s", time.monotonic() - self._started)
