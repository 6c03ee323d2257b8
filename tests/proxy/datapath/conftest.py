"""The datapath in force in a node's namespace, and a proxy that takes what it redirects."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.datapath import Datapath, cleanup
from tests.bpf.privileges import require_root
from tests.bpf.servers import TransparentProxy
from tests.bpf.topology import Topology, topology
from tests.proxy.datapath.scene import snapshot


@pytest.fixture(scope="module")
def net() -> Iterator[Topology]:
    require_root()
    with topology(f"psdp{os.getpid()}") as made:
        yield made


@pytest.fixture
def pin_dir() -> Path:
    return Path(f"/sys/fs/bpf/penstock-test-{os.getpid()}")


@pytest.fixture
def datapath(net: Topology, pin_dir: Path) -> Iterator[Datapath]:
    """In force in the node's namespace; the test's thread is there, too."""
    with net.node.enter():
        try:
            opened = Datapath.open(pin_dir)
            try:
                opened.sync(snapshot())
                yield opened
            finally:
                opened.close()
        finally:
            cleanup(pin_dir)


@pytest.fixture
def proxy(datapath: Datapath) -> Iterator[TransparentProxy]:
    made = TransparentProxy(datapath.connections_fd)
    datapath.set_listeners(made.slots())
    try:
        yield made
    finally:
        made.kill()
