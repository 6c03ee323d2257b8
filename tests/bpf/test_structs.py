"""The Python mirrors against the compiled object."""

from __future__ import annotations

import ctypes

import pytest

from bpf import build, structs
from bpf.btf import Layout, elf_section, struct_layouts
from bpf.errors import LoadError


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build.build()


def test_every_mirror_is_laid_out_as_in_the_object() -> None:
    structs.compare(struct_layouts(build.OBJECT))


@pytest.mark.parametrize(
    "change",
    [
        lambda layout: Layout(layout.size + 4, layout.members),
        lambda layout: Layout(layout.size, layout.members | {"flags": 0}),
        lambda layout: Layout(layout.size, {k: v for k, v in layout.members.items() if k != "flags"}),
    ],
    ids=["size", "offset", "missing member"],
)
def test_a_difference_is_found(change: object) -> None:
    layouts = struct_layouts(build.OBJECT)
    assert callable(change)
    layouts["endpoint"] = change(layouts["endpoint"])
    with pytest.raises(LoadError, match="struct endpoint"):
        structs.compare(layouts)


def test_a_missing_struct_is_found() -> None:
    layouts = struct_layouts(build.OBJECT)
    del layouts["event"]
    with pytest.raises(LoadError, match="struct event"):
        structs.compare(layouts)


def test_layouts_have_nested_and_array_members() -> None:
    event = struct_layouts(build.OBJECT)["event"]
    assert event.members["tuple"] == 8
    assert event.members["rule"] == event.members["destination_identity"] + 4
    assert event.size == ctypes.sizeof(structs.Event)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(LoadError, match="ELF"):
        elf_section(b"#!/bin/sh", ".BTF")
    with pytest.raises(LoadError, match="no section"):
        elf_section(build.OBJECT.read_bytes(), ".nothing")
