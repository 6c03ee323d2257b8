"""The few functions of libbpf that Penstock calls, through ctypes.

Functions return what libbpf 1.x returns: negative errno or NULL with errno set; `check` turns that into words. What
libbpf says at warning level, verifier logs included, is kept until the next `take_messages`, so that an error can
carry it; everything also goes to the logger `bpf.libbpf`, for debugging.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import logging
import os
import threading
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any, Final

from bpf.errors import LoadError

logger = logging.getLogger(__name__)

_PRINT = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
SAMPLE = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)

_LEVEL_WARN: Final = 0
_MESSAGES = threading.local()


class TestRunOpts(ctypes.Structure):
    """struct bpf_test_run_opts of <bpf/bpf.h>."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )
    retval: int
    duration: int
    data_size_out: int


class MapCreateOpts(ctypes.Structure):
    """struct bpf_map_create_opts of <bpf/bpf.h>."""

    _fields_ = (
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    )


class LinkCreateOpts(ctypes.Structure):
    """struct bpf_link_create_opts of <bpf/bpf.h>, as far as every libbpf 1.x has it."""

    _fields_ = (
        ("sz", c_size_t),
        ("flags", c_uint32),
        ("iter_info", c_void_p),
        ("iter_info_len", c_uint32),
        ("target_btf_id", c_uint32),
    )


_PROTOTYPES: Final[dict[str, tuple[Any, ...]]] = {
    # name: (result, *arguments)
    "bpf_object__open_file": (c_void_p, c_char_p, c_void_p),
    "bpf_object__load": (c_int, c_void_p),
    "bpf_object__close": (None, c_void_p),
    "bpf_object__next_map": (c_void_p, c_void_p, c_void_p),
    "bpf_object__next_program": (c_void_p, c_void_p, c_void_p),
    "bpf_object__find_map_by_name": (c_void_p, c_void_p, c_char_p),
    "bpf_map__name": (c_char_p, c_void_p),
    "bpf_map__fd": (c_int, c_void_p),
    "bpf_map__type": (c_int, c_void_p),
    "bpf_map__key_size": (c_uint32, c_void_p),
    "bpf_map__value_size": (c_uint32, c_void_p),
    "bpf_map__map_flags": (c_uint32, c_void_p),
    "bpf_map__max_entries": (c_uint32, c_void_p),
    "bpf_map__inner_map": (c_void_p, c_void_p),
    "bpf_map__set_max_entries": (c_int, c_void_p, c_uint32),
    "bpf_map__initial_value": (c_void_p, c_void_p, POINTER(c_size_t)),
    "bpf_map__reuse_fd": (c_int, c_void_p, c_int),
    "bpf_program__name": (c_char_p, c_void_p),
    "bpf_program__fd": (c_int, c_void_p),
    "bpf_obj_pin": (c_int, c_int, c_char_p),
    "bpf_obj_get": (c_int, c_char_p),
    "bpf_map_create": (c_int, c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p),
    "bpf_map_update_elem": (c_int, c_int, c_void_p, c_void_p, c_uint64),
    "bpf_map_lookup_elem": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_delete_elem": (c_int, c_int, c_void_p),
    "bpf_map_update_batch": (c_int, c_int, c_void_p, c_void_p, POINTER(c_uint32), c_void_p),
    "bpf_map_delete_batch": (c_int, c_int, c_void_p, POINTER(c_uint32), c_void_p),
    "bpf_map_lookup_batch": (
        c_int,
        c_int,
        c_void_p,
        c_void_p,
        c_void_p,
        c_void_p,
        POINTER(c_uint32),
        c_void_p,
    ),
    "bpf_map_get_next_key": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_get_fd_by_id": (c_int, c_uint32),
    "bpf_link_create": (c_int, c_int, c_int, c_int, c_void_p),
    "bpf_prog_query": (c_int, c_int, c_int, c_uint32, c_void_p, c_void_p, POINTER(c_uint32)),
    "bpf_link_update": (c_int, c_int, c_int, c_void_p),
    "bpf_prog_test_run_opts": (c_int, c_int, c_void_p),
    "ring_buffer__new": (c_void_p, c_int, SAMPLE, c_void_p, c_void_p),
    "ring_buffer__consume": (c_int, c_void_p),
    "ring_buffer__epoll_fd": (c_int, c_void_p),
    "ring_buffer__free": (None, c_void_p),
    "libbpf_num_possible_cpus": (c_int,),
    "libbpf_probe_bpf_prog_type": (c_int, c_int, c_void_p),
    "libbpf_probe_bpf_map_type": (c_int, c_int, c_void_p),
    "libbpf_probe_bpf_helper": (c_int, c_int, c_int, c_void_p),
    "libbpf_version_string": (c_char_p,),
}


def _print(level: int, template: bytes, arguments: int) -> int:
    # A va_list is passed on as the pointer it is on x86-64 and arm64.
    buffer = ctypes.create_string_buffer(1 << 16)
    ctypes.CDLL(None).vsnprintf(buffer, c_size_t(len(buffer)), template, c_void_p(arguments))
    text = buffer.value.decode(errors="replace").rstrip()
    logger.debug("%s", text)
    if level == _LEVEL_WARN:
        messages().append(text)
    return 0


_print_callback = _PRINT(_print)


def messages() -> list[str]:
    """What libbpf complained about in this thread since the last `take_messages`."""
    if not hasattr(_MESSAGES, "lines"):
        _MESSAGES.lines = []
    lines: list[str] = _MESSAGES.lines
    return lines


def take_messages() -> str:
    text = "\n".join(messages())
    messages().clear()
    return text


@cache
def library() -> ctypes.CDLL:
    """libbpf 1.x, prototypes declared."""
    try:
        loaded = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise LoadError(f"libbpf 1.x is not installed (Debian package: libbpf1): {error}") from error
    for name, (result, *arguments) in _PROTOTYPES.items():
        function = getattr(loaded, name)
        function.restype = result
        function.argtypes = arguments
    loaded.libbpf_set_print.restype = c_void_p
    loaded.libbpf_set_print.argtypes = [_PRINT]
    loaded.libbpf_set_print(_print_callback)
    return loaded


def check(result: int, doing: str) -> int:
    """The result, or a LoadError with errno's words and libbpf's own."""
    if result >= 0:
        return result
    number = -result
    words = f"{doing}: {errno.errorcode.get(number, number)} ({os.strerror(number)})"
    said = take_messages()
    raise LoadError(f"{words}\n{said}" if said else words)
