"""Fixtures of the end-to-end tests: one lab per module, named after this process so that several may run at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.lab import Lab
from proxy.lab.progress import Progress
from proxy.lab.sweep import sweep
from tests.lab.support import Node

HERE = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def privileges() -> None:
    """These tests need root. Where everything must run (CI=true) that is a failure, elsewhere a loud skip."""
    if os.geteuid() == 0:
        return
    why = "END-TO-END TESTS DID NOT RUN: they make network namespaces and need root (sudo make test)"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="module")
def lab_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for one lab, which is gone afterwards whatever the tests did."""
    topic = request.module.__name__.rpartition("test_")[2].replace("_", "-")[:10].strip("-")
    name = f"t{os.getpid()}-{topic}"
    yield name
    sweep(name)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The policy folder of the module's lab, with the policy that all tests start from."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "server.yaml").write_text((HERE / "policy.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def node(lab_name: str, policies: Path) -> Iterator[Node]:
    """A lab with the agent running."""
    with Lab.up(lab_name, [HERE / "workloads.yaml"], policies=policies, progress=Progress()) as lab:
        yield Node(lab)


@pytest.fixture
def restored(policies: Path, node: Node) -> Iterator[Callable[[str], None]]:
    """Writes the policy file; afterwards it is as it was, and in force."""
    file = policies / "server.yaml"
    before = file.read_text(encoding="utf-8")

    def write(text: str) -> None:
        # As editors do: a new file takes the old one's place.
        (policies / ".new").write_text(text, encoding="utf-8")
        (policies / ".new").replace(file)

    yield write
    if file.read_text(encoding="utf-8") != before:
        revision, was_broken = node.revision(), not node.is_unbroken()
        write(before)
        # From a broken edit there is nothing to go back from: the revision is still the good one's.
        node.eventually(lambda: node.is_unbroken() if was_broken else node.revision() > revision)
