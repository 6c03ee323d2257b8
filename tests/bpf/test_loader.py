"""Loading, pinning and refusing: what an operator gets to read when the kernel will not."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from ctypes import c_uint32
from pathlib import Path

import pytest

from bpf import build, loader, structs
from bpf.errors import LayoutMismatch, LoadError, MapFull
from bpf.libbpf import library
from bpf.loader import MAPS, PROGRAMS, Options, load, open_pinned, unpin
from bpf.maps import BpfMap, PolicyMaps
from bpf.structs import Address, Config, Endpoint, PolicyKey, PolicyValue
from tests.bpf.privileges import require_root

pytestmark = pytest.mark.bpf


@pytest.fixture
def pins() -> Iterator[Path]:
    require_root()
    path = Path(f"/sys/fs/bpf/penstock-loader-{os.getpid()}")
    try:
        yield path
    finally:
        unpin(path)


def test_everything_is_pinned_by_its_name(pins: Path) -> None:
    with load(pins) as loaded:
        assert not loaded.adopted
        assert {path.name for path in (pins / "maps").iterdir()} == {*MAPS, "layout"}
        assert {path.name for path in (pins / "programs").iterdir()} == set(PROGRAMS)


def test_adopted_maps_keep_their_content_and_size(pins: Path) -> None:
    with load(pins, Options(flows=1024)) as first:
        BpfMap("config", first.maps["config"], c_uint32, Config).set(c_uint32(0), Config(epoch=7))
    with load(pins, Options(flows=2048)) as second:
        assert second.adopted
        config = BpfMap("config", second.maps["config"], c_uint32, Config).get(c_uint32(0))
        assert config is not None
        assert config.epoch == 7


def test_a_start_that_was_killed_leaves_nothing_half(pins: Path) -> None:
    load(pins).close()
    (pins / "maps").rename(pins / "unfinished-1")
    with load(pins) as loaded:
        assert not loaded.adopted
    assert sorted(path.name for path in pins.iterdir()) == ["maps", "programs"]


def test_a_missing_map_is_refused(pins: Path) -> None:
    load(pins).close()
    (pins / "maps" / "policy").unlink()
    with pytest.raises(LayoutMismatch, match="policy is missing"):
        load(pins)


def test_another_layout_is_replaced_when_that_is_asked_for(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load(pins).close()
    before = _layout(pins)
    monkeypatch.setattr(loader, "MAPS", MAPS[:-1])
    with load(pins) as loaded:
        assert not loaded.adopted
        assert loaded.replaces == pins / "maps"
        assert _layout(pins) == before, "the old ones are in force until then"
        loaded.take_over()
        assert _layout(pins) != before
        assert sorted(path.name for path in pins.iterdir()) == ["maps", "programs"]
    with load(pins) as loaded:
        assert loaded.adopted


def _layout(pins: Path) -> bytes:
    fd = open_pinned(pins / "maps" / "layout")
    assert fd is not None
    value = ctypes.create_string_buffer(32)
    try:
        assert library().bpf_map_lookup_elem(fd, ctypes.byref(c_uint32(0)), value) == 0
    finally:
        os.close(fd)
    return value.raw


def test_values_of_another_shape_are_another_layout(pins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrower(ctypes.Structure):
        _fields_ = (("rule", c_uint32), ("verdict", ctypes.c_uint8), ("prefix", ctypes.c_uint8))

    load(pins).close()
    monkeypatch.setitem(structs.MIRRORS, "policy_value", Narrower)
    monkeypatch.setattr(structs, "compare", lambda _: None)
    with load(pins) as loaded:
        assert not loaded.adopted


def test_the_verifiers_words_reach_the_error(pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reads through a pointer it has not checked."""
    for part in ("include", "lib"):
        shutil.copytree(build.HERE / part, tmp_path / part)
    source = build.SOURCE.read_text()
    broken = source.replace("if (!interface)\n", "if (!epoch)\n", 1)
    assert broken != source
    (tmp_path / build.SOURCE.name).write_text(broken)
    for name, path in (("HERE", tmp_path), ("SOURCE", tmp_path / build.SOURCE.name), ("OBJECT", tmp_path / "x.o")):
        monkeypatch.setattr(build, name, path)
    with pytest.raises(LoadError, match=r"R[0-9]+ invalid mem access 'map_value_or_null'"):
        load(pins)
    assert not (pins / "maps").exists()


def test_without_privileges_the_error_says_so(pins: Path) -> None:
    build.build()
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable]
    program = "from bpf.loader import load; load(None)"
    result = subprocess.run(
        [*command, "-c", program], capture_output=True, text=True, cwd=build.HERE.parent, check=False
    )
    assert "LoadError" in result.stderr
    assert "EPERM" in result.stderr


def test_a_full_map_is_its_own_error(pins: Path) -> None:
    with load(None, Options(endpoints=2)) as loaded:
        endpoints = BpfMap("endpoints", loaded.maps["endpoints"], Address, Endpoint)
        keys = [Address.from_buffer_copy(number.to_bytes(16, "big")) for number in range(3)]
        for key in keys[:2]:
            endpoints.set(key, Endpoint(id=1))
        with pytest.raises(MapFull, match="map endpoints: update: E2BIG"):
            endpoints.set(keys[2], Endpoint(id=1))


def test_a_policy_larger_than_the_default_gets_the_room_it_needs(pins: Path) -> None:
    rows = {
        bytes(PolicyKey(prefix=64, identity=number, protocol=6)): bytes(PolicyValue(rule=number, verdict=1))
        for number in range(1, 40)
    }
    with load(None) as loaded:
        policies = PolicyMaps(loaded.maps["policy"], max_entries=8)
        policies.write({3: rows})
        assert policies.ids() == [3]
        assert policies.read(3) == rows
        policies.delete([3])
        assert policies.ids() == []
        assert policies.read(3) == {}
