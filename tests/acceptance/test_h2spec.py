"""The genuine h2spec, strict, through the running proxy, beside the same server without one: `make acceptance`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab import Lab
from proxy.lab.sweep import sweep
from tests.lab.support import own_node
from tests.lab.test_h2spec import POLICY, WORKLOADS

pytestmark = pytest.mark.acceptance

TOTALS = re.compile(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed")
NAME = "acceptance"


@pytest.fixture(scope="module")
def program() -> str:
    found = Path(sys.executable).parent / "h2spec"
    if not found.is_file():
        pytest.fail("h2spec is not there: `make acceptance` builds it")
    return str(found)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    try:
        with own_node(NAME, tmp_path_factory.mktemp("acceptance"), WORKLOADS, POLICY) as node:
            yield node.lab
    finally:
        sweep(NAME)


def run(program: str, lab: Lab, source: str) -> tuple[int, int, int, int]:
    """(tests, passed, skipped, failed)."""
    argv = [program, "-h", lab.pod("shop/server").v4, "-p", "80", "-S", "-o", "5"]
    done = lab.exec(source, argv, capture_output=True, text=True)
    print(done.stdout)
    found = TOTALS.search(done.stdout)
    assert found is not None, done.stdout + done.stderr
    tests, passed, skipped, failed = map(int, found.groups())
    return tests, passed, skipped, failed


def test_through_the_proxy_everything_passes_that_passes_without(program: str, lab: Lab) -> None:
    """From its own pod the server is reached without a proxy."""
    alone = run(program, lab, "shop/server")
    through = run(program, lab, "shop/client")
    print(f"alone: {alone}, through the proxy: {through} (tests, passed, skipped, failed)")
    assert alone[3] == through[3] == 0
    assert through == alone
    assert through[0] >= 140
