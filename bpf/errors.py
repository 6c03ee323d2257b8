"""Every way in which the kernel side can refuse, by name. All carry words for the operator."""

from __future__ import annotations


class BpfError(Exception):
    """Something of the datapath could not be done; the text says what and why."""


class BuildError(BpfError):
    """The eBPF object could not be compiled."""


class LoadError(BpfError):
    """The kernel refused a map or a program; carries libbpf's words and the verifier's log."""


class LayoutMismatch(BpfError):
    """Pinned maps of another layout: enforcing goes on with the old programs, this version must not touch them."""


class PinError(BpfError):
    """The pin directory is not, and cannot be made, a BPF file system."""


class MapError(BpfError):
    """A map operation failed. `errno` as the kernel gave it."""

    def __init__(self, name: str, operation: str, errno: int, words: str) -> None:
        super().__init__(f"map {name}: {operation}: {words}")
        self.map_name = name
        self.errno = errno


class MapFull(MapError):
    """No room: what did not fit is not enforced as allowed, it falls to default deny."""


class AttachError(BpfError):
    """A program, device, rule or route could not be put in place."""
