"""Go's own resolver, with the proxy between it and DNS servers: `make acceptance`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab.sweep import sweep
from tests.lab.dns_clients import GO
from tests.lab.support import Node
from tests.lab.test_dns_clients import CLIENT, SERVERS, address_of, all_servers, check_told, configure, resolve

pytestmark = pytest.mark.acceptance

NAME = "acceptance-go"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> str:
    go = shutil.which("go", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}")
    if go is None:
        pytest.fail("go is not there: `make acceptance` installs it")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(GO, encoding="ascii")
    environment = {**os.environ, "CGO_ENABLED": "0"}
    subprocess.run([go, "build", "-o", "resolve", "main.go"], cwd=folder, env=environment, check=True)
    return str(folder / "resolve")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    try:
        with all_servers(NAME, tmp_path_factory.mktemp("dns")) as found:
            yield found
    finally:
        sweep(NAME)


@pytest.mark.parametrize("options", ["", "use-vc", "single-request", "edns0"])
@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("where", SERVERS)
def test_go(node: Node, program: str, where: str, ip: int, options: str) -> None:
    node.lab.agent.client.delete("/v1/fqdn/cache")
    configure(node, CLIENT, address_of(node, where, ip), options)
    check_told(resolve(node, CLIENT, program), "server misbehaving")
