"""Ready when the last token is done."""

from __future__ import annotations

import logging

import pytest

from proxy.readiness import Readiness


def test_tokens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    readiness = Readiness()
    readiness.register("datapath", "workers")
    readiness.done("workers")
    readiness.done("workers")
    assert readiness.pending == ("datapath",)
    assert "ready" not in caplog.text
    readiness.done("datapath")
    assert not readiness.pending
    assert "ready after" in caplog.text
