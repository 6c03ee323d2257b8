"""The dependency rule: who may import whom. A folder's imports are its architecture."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OWN = {"parsers", "bpf", "config", "proxy", "tests", "benchmarks"}

ALLOWED = {
    "parsers": {"parsers"},
    "parsers/http2/hpack.py": {"hpack"},
    "parsers/kafka/codecs.py": {"kafka"},
    "bpf": {"bpf", "pyroute2"},
    "config": {"config", "parsers", "pydantic", "pydantic_core", "yaml", "re2", "watchfiles"},
}
"""For folders, and files that may more. `proxy` may import everything but tests and benchmarks."""

DATAPATH_ONLY = "proxy/datapath/"
LIVE = ("proxy.app", "proxy.worker", "proxy.workers", "proxy.datapath", "proxy.api.server")
MAY_TOUCH_LIVE = {"proxy/cli/run.py", "proxy/cli/check.py", "proxy/cli/cleanup.py", "proxy/cli/bpf.py"}


def sources(folder: str) -> list[Path]:
    return sorted(p for p in (ROOT / folder).rglob("*.py") if "examples" not in p.parts)


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""


@pytest.mark.parametrize("folder", [name for name in sorted(ALLOWED) if not name.endswith(".py")])
def test_folder_imports_only_what_it_may(folder: str) -> None:
    allowed = ALLOWED[folder] | sys.stdlib_module_names
    bad = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(folder)
        for name in imports(path)
        if name.split(".")[0] not in allowed | ALLOWED.get(str(path.relative_to(ROOT)), set())
    ]
    assert bad == []


def test_config_uses_nothing_but_the_facts_of_parsers() -> None:
    bad = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources("config")
        for name in imports(path)
        if name.split(".")[0] == "parsers" and name != "parsers.facts"
    ]
    assert bad == []


def test_one_package_talks_to_the_kernels_half() -> None:
    users = {str(p.relative_to(ROOT)) for p in sources("proxy") if any(n.split(".")[0] == "bpf" for n in imports(p))}
    assert users
    assert all(user.startswith(DATAPATH_ONLY) for user in users)


def test_one_module_assembles() -> None:
    users = {str(p.relative_to(ROOT)) for p in sources("proxy") if "proxy.app" in set(imports(p))}
    assert users <= {"proxy/cli/run.py"}


def test_nothing_imports_tests_or_benchmarks() -> None:
    bad = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("parsers", "bpf", "config", "proxy")
        for path in sources(folder)
        for name in imports(path)
        if name.split(".")[0] in ("tests", "benchmarks")
    ]
    assert bad == []


def test_command_line_and_lab_know_no_live_objects() -> None:
    """They talk to the API. Only what starts, probes, reads or removes the agent's kernel side may touch it itself."""
    users = {
        str(path.relative_to(ROOT))
        for folder in ("proxy/cli", "proxy/lab")
        for path in sources(folder)
        if any(name.startswith(LIVE) for name in imports(path))
    }
    assert users <= MAY_TOUCH_LIVE
