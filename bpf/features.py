"""What this kernel and these privileges can do, and for each lack what it costs: the data of `penstock check`."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from ctypes import byref, c_uint32
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bpf import bpffs, build, translation
from bpf.attach import Hook
from bpf.errors import BpfError
from bpf.libbpf import library, take_messages

_PROG_SCHED_CLS: Final = 3
_PROGRAMS: Final = (("TC programs", _PROG_SCHED_CLS, "4.1"), ("sk_lookup programs", 30, "5.9"))
_MAPS: Final = {  # include/uapi/linux/bpf.h, and the kernel that brought it
    "LRU hash": (9, "4.10"),
    "LPM trie": (11, "4.11"),
    "hash of maps": (13, "4.12"),
    "sockmap": (15, "4.14"),
    "ring buffer": (27, "5.8"),
}
_HELPERS: Final = {
    "bpf_skc_lookup_tcp": (99, "5.2"),
    "bpf_sk_assign": (124, "5.7"),
    "bpf_ringbuf_reserve": (131, "5.8"),
    "bpf_ktime_get_coarse_ns": (160, "5.11"),
}
_LOOPBACK: Final = 1
_CAPABILITIES: Final = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_BPF": 39}


@dataclass(frozen=True, slots=True)
class Feature:
    """`why` says what is missing, or what is there."""

    name: str
    ok: bool
    why: str


def _capability_mask() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def _privileges() -> Feature:
    mask = _capability_mask()
    held = {name for name, bit in _CAPABILITIES.items() if mask >> bit & 1}
    enough = "CAP_NET_ADMIN" in held and bool({"CAP_SYS_ADMIN", "CAP_BPF"} & held)
    return Feature("privileges", enough, ", ".join(sorted(held)) or "none of " + ", ".join(_CAPABILITIES))


def _supported(result: int, since: str) -> tuple[bool, str]:
    take_messages()
    if result == 1:
        return True, "supported"
    if result == 0:
        return False, f"this kernel has it not (Linux {since} has)"
    return False, os.strerror(-result)


def _kernel_features() -> list[Feature]:
    lib = library()
    features = [
        Feature(name, *_supported(lib.libbpf_probe_bpf_prog_type(number, None), since))
        for name, number, since in _PROGRAMS
    ]
    for name, (number, since) in _MAPS.items():
        features.append(Feature(name, *_supported(lib.libbpf_probe_bpf_map_type(number, None), since)))
    for name, (number, since) in _HELPERS.items():
        result = lib.libbpf_probe_bpf_helper(_PROG_SCHED_CLS, number, None)
        features.append(Feature(name, *_supported(result, since)))
    return features


def _object() -> Feature:
    if build.is_current():
        return Feature("eBPF object", True, str(build.OBJECT))
    try:
        return Feature("eBPF object", True, f"will be compiled with {build.find_clang()}")
    except BpfError as error:
        return Feature("eBPF object", False, f"not compiled, and {error}")


def _sysctl(name: str, wanted: Callable[[str], bool], why: str) -> Feature:
    path = Path("/proc/sys/net") / name.replace(".", "/")
    try:
        value = path.read_text().strip()
    except OSError as error:
        return Feature(f"net.{name}", False, error.strerror or "unreadable")
    return Feature(f"net.{name}", wanted(value), f"{value}" if wanted(value) else f"{value}: {why}")


def _tcx() -> Feature:
    """Whether the kernel can list the links of an interface's hook."""
    count = c_uint32(0)
    result = library().bpf_prog_query(_LOOPBACK, Hook.INGRESS.attach_type, 0, None, None, byref(count))
    take_messages()
    words = "programs are links, first in line" if result == 0 else "Linux 6.6 has it; TC filters take its place"
    return Feature("TCX links", result == 0, words)


def _nftables() -> Feature:
    words = "found" if translation.is_available() else "no `nft`: connections to services are not inspected"
    return Feature("nftables", translation.is_available(), words)


def _library() -> Feature:
    try:
        return Feature("libbpf", True, library().libbpf_version_string().decode())
    except BpfError as error:
        return Feature("libbpf", False, str(error))


def _file_system() -> Feature:
    default = Path("/sys/fs/bpf")
    if bpffs.is_bpffs(default):
        return Feature("BPF file system", True, str(default))
    if default.is_dir():
        return Feature("BPF file system", True, f"will be mounted at {default}")
    return Feature("BPF file system", False, f"{default} does not exist: is sysfs mounted?")


def probe() -> list[Feature]:
    """Everything that `penstock run` needs, whether or not it is there."""
    features = [Feature("kernel", True, platform.release()), _privileges(), _library(), _object(), _file_system()]
    if features[2].ok and features[1].ok:
        features += _kernel_features()
    forwards = "packets between pods are not forwarded: set it to 1"
    if features[2].ok and features[1].ok:
        features.append(_tcx())
    features.append(_nftables())
    features.append(_sysctl("ipv4.ip_forward", lambda value: value == "1", forwards))
    features.append(_sysctl("ipv6.conf.all.forwarding", lambda value: value == "1", forwards))
    return features
