"""The programs, loaded once for all PROG_RUN tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.bpf.kernel import Kernel, kernel
from tests.bpf.privileges import require_root


@pytest.fixture(scope="session")
def loaded_kernel() -> Iterator[Kernel]:
    require_root()
    with kernel(f"psbpf{os.getpid()}") as made:
        yield made


@pytest.fixture
def programs(loaded_kernel: Kernel) -> Kernel:
    """No flow is known."""
    loaded_kernel.forget_flows()
    return loaded_kernel
