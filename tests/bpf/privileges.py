"""Tests that need root say so loudly: skipped for a user, failed where nothing may be skipped (CI=true)."""

from __future__ import annotations

import os

import pytest


def require_root() -> None:
    if os.geteuid() == 0:
        return
    reason = "needs root: loads eBPF programs and makes network namespaces"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
