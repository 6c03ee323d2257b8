"""The second agent is told who the first is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.lock import AlreadyRunningError, acquire


def test_second_holder_is_told_the_first(tmp_path: Path) -> None:
    fd = acquire(tmp_path / "new" / "lock")
    with pytest.raises(AlreadyRunningError, match=str(os.getpid())) as caught:
        acquire(tmp_path / "new" / "lock")
    assert caught.value.pid == os.getpid()
    os.close(fd)
    os.close(acquire(tmp_path / "new" / "lock"))
