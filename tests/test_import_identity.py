"""Our four top-level names are generic: whoever else ships one of them must not be picked up in our place."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAMES = ("proxy", "parsers", "bpf", "config")


@pytest.mark.parametrize("name", NAMES)
def test_the_package_is_ours(name: str) -> None:
    paths = [Path(path).resolve() for path in importlib.import_module(name).__path__]
    assert paths == [ROOT / name]


@pytest.mark.parametrize("name", NAMES)
def test_no_other_distribution_owns_the_name(name: str) -> None:
    owners = importlib.metadata.packages_distributions().get(name, [])
    assert set(owners) <= {"penstock"}
