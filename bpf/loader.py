"""Object file → maps and programs in the kernel, pinned below one directory.

    PIN_DIR/maps/NAME       one per map of lib/maps.h, and `layout`: the hash of what keys and values look like
    PIN_DIR/programs/NAME   from_pod, to_pod, from_bounce, choose_listener

Maps found there are adopted if their layout is this object's, else nothing is touched: enforcing goes on as it was.
New maps are pinned in a directory of their own that is renamed when it is complete, so a killed start leaves no half.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
from collections.abc import Mapping
from ctypes import byref, c_size_t, c_uint32
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bpf import bpffs, build, structs
from bpf.btf import struct_layouts
from bpf.errors import LayoutMismatch, LoadError
from bpf.libbpf import check, library, take_messages

MAPS: Final = (
    "config",
    "endpoints",
    "endpoints_by_id",
    "endpoints_by_if",
    "ipcache",
    "names",
    "policy",
    "ct",
    "fragments",
    "proxy_sockets",
    "proxy_conns",
    "events",
    "events_budget",
    "metrics",
)
PROGRAMS: Final = ("from_pod", "to_pod", "to_world", "from_bounce", "choose_listener")

_MAP_TYPE_ARRAY: Final = 2
_LAYOUT: Final = "layout"
_LAYOUT_BYTES: Final = 32
_LARGEST_CONFIG: Final = 4096


@dataclass(frozen=True, slots=True)
class Options:
    """Sizes of maps and the programs' fixed settings. Sizes of adopted maps stay what they were."""

    flows: int = 262144
    connections: int = 65536
    policy_entries: int = 131072
    ipcache_entries: int = 524288
    names_entries: int = 262144
    endpoints: int = 16384
    events_bytes: int = 1 << 20
    events_per_window: int = 1024
    udp_timeout_s: int = 60
    tcp_timeout_s: int = 21600
    tcp_opening_timeout_s: int = 60
    tcp_closed_timeout_s: int = 10
    fragments: int = 8192
    silent: bool = False

    def sizes(self) -> Mapping[str, int]:
        return {
            "ct": self.flows,
            "proxy_conns": self.connections,
            "ipcache": self.ipcache_entries,
            "names": self.names_entries,
            "endpoints": self.endpoints,
            "fragments": self.fragments,
            "events": self.events_bytes,
        }

    def settings(self) -> structs.Settings:
        def units(seconds: int) -> int:
            return max(1, seconds * 10**9 >> 30)  # the programs count in 2^30 ns

        return structs.Settings(
            events_per_window=self.events_per_window,
            udp_timeout=units(self.udp_timeout_s),
            tcp_timeout=units(self.tcp_timeout_s),
            tcp_opening_timeout=units(self.tcp_opening_timeout_s),
            tcp_closed_timeout=units(self.tcp_closed_timeout_s),
            silent=self.silent,
        )


@dataclass(slots=True)
class LoadedObject:
    """Descriptors live as long as this does; what is pinned outlives it."""

    maps: Mapping[str, int]
    capacities: Mapping[str, int]
    programs: Mapping[str, int]
    adopted: bool
    replaces: Path | None
    """Maps of another version that are still pinned there, and in force until `take_over`."""
    _digest: bytes = field(repr=False)
    _handle: int | None = field(repr=False)

    def take_over(self) -> None:
        """Pin these maps in the place of those of another version, when every interface has these programs."""
        if self.replaces is not None:
            _pin_maps(self.replaces.parent, self.maps, self._digest)
            self.replaces = None

    def close(self) -> None:
        if self._handle is not None:
            library().bpf_object__close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(pin_dir: Path | None, options: Options | None = None) -> LoadedObject:
    """Load the compiled object. `pin_dir` None pins nothing (tests, measurements)."""
    options = options or Options()
    if not build.is_current():
        build.build()
    structs.compare(struct_layouts(build.OBJECT))
    take_messages()
    handle = library().bpf_object__open_file(os.fsencode(build.OBJECT), None)
    if not handle:
        check(-ctypes.get_errno(), f"open {build.OBJECT}")
    try:
        return _load(handle, pin_dir, options)
    except BaseException:
        library().bpf_object__close(handle)
        raise


def _load(handle: int, pin_dir: Path | None, options: Options) -> LoadedObject:
    lib = library()
    maps = {name: _find_map(handle, name) for name in MAPS}
    for name, size in options.sizes().items():
        check(lib.bpf_map__set_max_entries(maps[name], size), f"map {name}: set size {size}")
    _set_settings(handle, options.settings())
    digest = _layout_digest(maps)
    adopted, replaces = False, None
    if pin_dir is not None:
        bpffs.ensure(pin_dir)
        if (pin_dir / "maps").is_dir():
            adopted = _adopt(pin_dir / "maps", maps, digest)
            replaces = None if adopted else pin_dir / "maps"
    check(lib.bpf_object__load(handle), "the kernel refused the eBPF object")
    take_messages()
    programs = _program_fds(handle)
    map_fds = {name: int(lib.bpf_map__fd(pointer)) for name, pointer in maps.items()}
    if pin_dir is not None:
        if not adopted and replaces is None:
            _pin_maps(pin_dir, map_fds, digest)
        _pin_programs(pin_dir, programs)
    capacities = {name: int(lib.bpf_map__max_entries(pointer)) for name, pointer in maps.items()}
    return LoadedObject(map_fds, capacities, programs, adopted, replaces, digest, handle)


def _find_map(handle: int, name: str) -> int:
    pointer = library().bpf_object__find_map_by_name(handle, name.encode())
    if not pointer:
        raise LoadError(f"the object has no map {name}")
    return int(pointer)


def _set_settings(handle: int, settings: structs.Settings) -> None:
    size = c_size_t()
    pointer = library().bpf_map__initial_value(_find_map(handle, ".rodata.settings"), byref(size))
    if not pointer or size.value != ctypes.sizeof(settings):
        raise LoadError(f"the object's settings have {size.value} bytes, expected {ctypes.sizeof(settings)}")
    ctypes.memmove(pointer, byref(settings), size.value)


def _program_fds(handle: int) -> dict[str, int]:
    lib = library()
    found: dict[str, int] = {}
    program = lib.bpf_object__next_program(handle, None)
    while program:
        found[lib.bpf_program__name(program).decode()] = int(lib.bpf_program__fd(program))
        program = lib.bpf_object__next_program(handle, program)
    return {name: found[name] for name in PROGRAMS}


def _layout_digest(maps: Mapping[str, int]) -> bytes:
    """What must agree for an adopted map to mean the same: types, sizes, and where each member lies."""
    lib = library()
    digest = hashlib.sha256()
    for name, pointer in maps.items():
        facts = (lib.bpf_map__type(pointer), lib.bpf_map__key_size(pointer), lib.bpf_map__value_size(pointer))
        digest.update(f"{name} {facts} {lib.bpf_map__map_flags(pointer)}\n".encode())
    for name, mirror in structs.MIRRORS.items():
        digest.update(f"{name} {structs.mirror_layout(mirror)}\n".encode())
    return digest.digest()


def _adopt(directory: Path, maps: Mapping[str, int], digest: bytes) -> bool:
    """False: they are of another version. Raises LayoutMismatch if they are nobody knows whose."""
    lib = library()
    advice = f"`penstock cleanup` removes the old ones (and stops enforcing), or run the version that made {directory}"
    layout = open_pinned(directory / _LAYOUT)
    if layout is None:
        raise LayoutMismatch(f"{directory} holds maps that are not ours or were not finished: {advice}")
    try:
        found = ctypes.create_string_buffer(_LAYOUT_BYTES)
        check(lib.bpf_map_lookup_elem(layout, byref(c_uint32(0)), found), f"read {directory / _LAYOUT}")
    finally:
        os.close(layout)
    if found.raw != digest:
        return False
    for name, pointer in maps.items():
        fd = open_pinned(directory / name)
        if fd is None:
            raise LayoutMismatch(f"{directory / name} is missing: {advice}")
        try:
            check(lib.bpf_map__reuse_fd(pointer, fd), f"adopt {directory / name}")
        finally:
            os.close(fd)
    return True


def open_pinned(path: Path) -> int | None:
    """A descriptor of what is pinned there; None if nothing is."""
    if not path.exists():
        return None
    return check(library().bpf_obj_get(os.fsencode(path)), f"open {path}")


def read_config(pin_dir: Path) -> structs.Config | None:
    """The pinned configuration, of whatever version: behind its first four members there may be anything."""
    fd = open_pinned(pin_dir / "maps" / "config")
    if fd is None:
        return None
    try:
        value = ctypes.create_string_buffer(_LARGEST_CONFIG)
        result = library().bpf_map_lookup_elem(fd, byref(c_uint32(0)), value)
    finally:
        os.close(fd)
    return structs.Config.from_buffer_copy(value) if result == 0 else None


def _pin_maps(pin_dir: Path, fds: Mapping[str, int], digest: bytes) -> None:
    lib = library()
    unfinished = pin_dir / f"unfinished-{os.getpid()}"
    for left in pin_dir.glob("unfinished-*"):
        shutil.rmtree(left)
    unfinished.mkdir(mode=0o700)
    for name, fd in fds.items():
        check(lib.bpf_obj_pin(fd, os.fsencode(unfinished / name)), f"pin map {name}")
    layout = check(
        lib.bpf_map_create(_MAP_TYPE_ARRAY, b"layout", 4, _LAYOUT_BYTES, 1, None),
        "create the map for the layout's hash",
    )
    try:
        value = ctypes.create_string_buffer(digest, _LAYOUT_BYTES)
        check(lib.bpf_map_update_elem(layout, byref(c_uint32(0)), value, 0), "write the layout's hash")
        check(lib.bpf_obj_pin(layout, os.fsencode(unfinished / _LAYOUT)), "pin the layout's hash")
    finally:
        os.close(layout)
    # Whoever comes upon neither makes maps anew; until then the programs on the interfaces go on with theirs.
    if (pin_dir / "maps").is_dir():
        (pin_dir / "maps").rename(pin_dir / f"unfinished-old-{os.getpid()}")
    unfinished.rename(pin_dir / "maps")
    for left in pin_dir.glob("unfinished-*"):
        shutil.rmtree(left)


def _pin_programs(pin_dir: Path, fds: Mapping[str, int]) -> None:
    directory = pin_dir / "programs"
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, fd in fds.items():
        fresh = directory / f"{name}-new"
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        check(library().bpf_obj_pin(fd, os.fsencode(fresh)), f"pin program {name}")
        fresh.replace(directory / name)


def unpin(pin_dir: Path) -> list[str]:
    """Remove every pin. What attached programs use lives on until they are detached."""
    removed = []
    for part in ("links", "programs", "maps", *(path.name for path in pin_dir.glob("unfinished-*"))):
        if (pin_dir / part).is_dir():
            shutil.rmtree(pin_dir / part)
            removed.append(f"pins {pin_dir / part}")
    if pin_dir.is_dir() and not any(pin_dir.iterdir()) and not os.path.ismount(pin_dir):
        pin_dir.rmdir()
    return removed
