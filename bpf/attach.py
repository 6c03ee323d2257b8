"""Programs on interfaces: TCX links where the kernel has them (Linux 6.6), else clsact filters of our own.

A link is the first in its hook's list and pinned, so that it stays when the agent goes; a filter has a priority and a
handle of its own. Both are replaced in place: traffic meets the old program or the new one, never none. Programs and
filters of others on the same interface are neither touched nor skipped (our plain pass is TC_ACT_UNSPEC, which a link
knows as TCX_NEXT).
"""

from __future__ import annotations

import ctypes
import errno
import os
from ctypes import byref
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from bpf.libbpf import LinkCreateOpts, check, library, take_messages
from bpf.netlink import Netlink, attempt

_ETH_P_ALL: Final = 3
_PRIORITY: Final = 9
_HANDLE: Final = 0x9
_NAME_PREFIX: Final = "penstock_"
# enum bpf_attach_type of <linux/bpf.h>
_BPF_SK_LOOKUP: Final = 36
_BPF_F_BEFORE: Final = 8
_NO_TCX: Final = (-errno.EINVAL, -errno.EOPNOTSUPP)


class Hook(Enum):
    """A side of an interface, seen from the node: clsact's parent (TC_H_CLSACT with TC_H_MIN_*), TCX's attach type."""

    INGRESS = (0xFFFFFFF2, 46)
    EGRESS = (0xFFFFFFF3, 47)

    @property
    def parent(self) -> int:
        return self.value[0]

    @property
    def attach_type(self) -> int:
        return self.value[1]


@dataclass(slots=True)
class Attachments:
    """Our programs on the interfaces of this network namespace. `directory`: where links are pinned; below it is one
    file per interface and hook, `IFINDEX-HOOK-PROGRAM`. `use_links` False is for kernels without TCX.
    """

    directory: Path
    use_links: bool = True

    def attach(self, ip: Netlink, ifindex: int, hook: Hook, program: str, fd: int) -> None:
        """Put the program there, in place of an older one of ours."""
        if self.use_links and self._attach_link(ifindex, hook, program, fd):
            self._delete_filter(ip, ifindex, hook)  # of a version without links
        else:
            self.use_links = False
            _attach_filter(ip, ifindex, hook, program, fd)

    def detach(self, ip: Netlink, ifindex: int) -> list[str]:
        """Remove our programs from the interface, and clsact if nobody else uses it. Names what was removed."""
        removed: list[str] = []
        for path in self._links(ifindex):
            path.unlink(missing_ok=True)
            removed.append(path.name.split("-", 2)[2])
        for hook in Hook:
            removed += self._delete_filter(ip, ifindex, hook)
        if removed and not any(_filters(ip, ifindex, hook) for hook in Hook):
            gone = (errno.ENOENT, errno.EINVAL, errno.ENODEV)
            attempt(f"interface {ifindex}: remove clsact", gone, ip.tc, "del", "clsact", ifindex)
        return removed

    def forget_gone(self, present: set[int]) -> None:
        """Links of interfaces that are no more: an interface with the same number would not get their program."""
        if self.directory.is_dir():
            for path in self.directory.iterdir():
                if int(path.name.partition("-")[0]) not in present:
                    path.unlink(missing_ok=True)

    def _links(self, ifindex: int, hook: Hook | None = None) -> list[Path]:
        pattern = f"{ifindex}-{hook.name.lower() if hook else '*'}-*"
        return sorted(self.directory.glob(pattern)) if self.directory.is_dir() else []

    def _attach_link(self, ifindex: int, hook: Hook, program: str, fd: int) -> bool:
        """False if this kernel has no TCX."""
        path = self.directory / f"{ifindex}-{hook.name.lower()}-{program}"
        others = [known for known in self._links(ifindex, hook) if known != path]
        if not _update_link(path, fd):
            options = LinkCreateOpts(sz=ctypes.sizeof(LinkCreateOpts), flags=_BPF_F_BEFORE)
            link = library().bpf_link_create(fd, ifindex, hook.attach_type, byref(options))
            if link in _NO_TCX:
                take_messages()
                return False
            check(link, f"interface {ifindex}: attach {program}")
            try:
                self.directory.mkdir(mode=0o700, exist_ok=True)
                path.unlink(missing_ok=True)
                check(library().bpf_obj_pin(link, os.fsencode(path)), f"pin the link of {program}")
            finally:
                os.close(link)
        for other in others:  # another program of ours had this hook
            other.unlink(missing_ok=True)
        return True

    def _delete_filter(self, ip: Netlink, ifindex: int, hook: Hook) -> list[str]:
        ours = [name for priority, name in _filters(ip, ifindex, hook) if _is_ours(priority, name)]
        for name in ours:
            options: dict[str, Any] = {"parent": hook.parent, "prio": _PRIORITY, "protocol": _ETH_P_ALL}
            gone = (errno.ENOENT, errno.ENODEV)
            attempt(
                f"interface {ifindex}: detach {name}", gone, ip.tc, "del-filter", "bpf", ifindex, _HANDLE, **options
            )
        return [name.removeprefix(_NAME_PREFIX) for name in ours]


def _update_link(path: Path, fd: int) -> bool:
    """Put the program into the pinned link; False if there is none, or its interface is gone."""
    if not path.exists():
        return False
    link = library().bpf_obj_get(os.fsencode(path))
    if link < 0:
        return False
    try:
        result = int(library().bpf_link_update(link, fd, None))
    finally:
        os.close(link)
    if result == -errno.ENOLINK:
        return False
    check(result, f"replace the program of {path.name}")
    return True


def _attach_filter(ip: Netlink, ifindex: int, hook: Hook, program: str, fd: int) -> None:
    attempt(f"interface {ifindex}: add clsact", (errno.EEXIST,), ip.tc, "add", "clsact", ifindex)
    attempt(
        f"interface {ifindex}: attach {program}",
        (),
        ip.tc,
        "replace-filter",
        "bpf",
        ifindex,
        _HANDLE,
        fd=fd,
        name=_NAME_PREFIX + program,
        parent=hook.parent,
        prio=_PRIORITY,
        protocol=_ETH_P_ALL,
        direct_action=True,
    )


def attach_to_listener_lookup(fd: int) -> int:
    """Ask a program where this network namespace looks for a TCP listener. Returns the link: it lasts while it is open.

    Several programs may be asked (Documentation/bpf/prog_sk_lookup.rst); ours passes on all that is not the proxy's.
    """
    namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return check(library().bpf_link_create(fd, namespace, _BPF_SK_LOOKUP, None), "attach choose_listener")
    finally:
        os.close(namespace)


def _filters(ip: Netlink, ifindex: int, hook: Hook) -> list[tuple[int, str]]:
    """(priority, name) of every eBPF filter there; other kinds have an empty name."""
    found = []
    for message in ip.get_filters(index=ifindex, parent=hook.parent):
        options = message.get_attr("TCA_OPTIONS")
        name = options.get_attr("TCA_BPF_NAME") if options is not None and hasattr(options, "get_attr") else None
        found.append((int(message["info"]) >> 16, str(name or "")))
    return found


def _is_ours(priority: int, name: str) -> bool:
    return priority == _PRIORITY and name.startswith(_NAME_PREFIX)
