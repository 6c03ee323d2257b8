"""Runs a loaded program on one frame (BPF_PROG_TEST_RUN): for tests and for measuring.

The kernel gives such a frame no TC ingress state, so it refuses to assign a socket; everything before that is real.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_uint8, c_uint32
from dataclasses import dataclass
from typing import Final

from bpf.libbpf import TestRunOpts, check, library

TC_ACT_UNSPEC: Final = 0xFFFFFFFF
TC_ACT_OK: Final = 0
TC_ACT_SHOT: Final = 2
TC_ACT_REDIRECT: Final = 7

_SKB_CONTEXT_BYTES: Final = 192


class _SkbContext(ctypes.Structure):
    """struct __sk_buff of <linux/bpf.h>, as far as a test run can set it."""

    _fields_ = (
        ("len", c_uint32),
        ("pkt_type", c_uint32),
        ("mark", c_uint32),
        ("queue_mapping", c_uint32),
        ("protocol", c_uint32),
        ("vlan_present", c_uint32),
        ("vlan_tci", c_uint32),
        ("vlan_proto", c_uint32),
        ("priority", c_uint32),
        ("ingress_ifindex", c_uint32),
        ("ifindex", c_uint32),
        ("rest", c_uint8 * (_SKB_CONTEXT_BYTES - 44)),
    )
    mark: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """`action` is the program's return value, `data` what it left of the frame, `nanoseconds` the mean of all runs."""

    action: int
    mark: int
    nanoseconds: int
    data: bytes = b""


def run_program(program_fd: int, frame: bytes, ifindex: int = 1, mark: int = 0, repeat: int = 1) -> RunResult:
    """Run the program on a copy of the frame, as if seen on that interface of the current network namespace."""
    context = _SkbContext(mark=mark, ifindex=ifindex)
    given = ctypes.create_string_buffer(frame, len(frame))
    out = ctypes.create_string_buffer(len(frame) + 256)
    options = TestRunOpts(
        sz=ctypes.sizeof(TestRunOpts),
        data_in=ctypes.addressof(given),
        data_size_in=len(frame),
        data_out=ctypes.addressof(out),
        data_size_out=len(out),
        ctx_in=ctypes.addressof(context),
        ctx_size_in=ctypes.sizeof(context),
        ctx_out=ctypes.addressof(context),
        ctx_size_out=ctypes.sizeof(context),
        repeat=repeat,
    )
    check(library().bpf_prog_test_run_opts(program_fd, byref(options)), "test run")
    return RunResult(options.retval, context.mark, options.duration, out.raw[: options.data_size_out])
