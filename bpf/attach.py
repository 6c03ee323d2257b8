"""Programs on interfaces: clsact filters with a priority and handle of our own, replaced in place.

A replace swaps the program of one filter atomically; traffic meets the old one or the new one, never none. Filters of
others on the same interface are neither touched nor skipped (our plain pass is TC_ACT_UNSPEC).
"""

from __future__ import annotations

import errno
import os
from enum import Enum
from typing import Any, Final

from bpf.libbpf import check, library
from bpf.netlink import Netlink, attempt

_ETH_P_ALL: Final = 3
_PRIORITY: Final = 9
_HANDLE: Final = 0x9
_NAME_PREFIX: Final = "penstock_"
_BPF_SK_LOOKUP: Final = 36  # enum bpf_attach_type of <linux/bpf.h>

_INGRESS: Final = 0xFFFFFFF2  # Documentation/networking: TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
_EGRESS: Final = 0xFFFFFFF3


class Hook(Enum):
    """A side of an interface, seen from the node."""

    INGRESS = _INGRESS
    EGRESS = _EGRESS


def attach(ip: Netlink, ifindex: int, hook: Hook, program: str, fd: int) -> None:
    """Put the program there, in place of an older one of ours."""
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
        parent=hook.value,
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
    for message in ip.get_filters(index=ifindex, parent=hook.value):
        options = message.get_attr("TCA_OPTIONS")
        name = options.get_attr("TCA_BPF_NAME") if options is not None and hasattr(options, "get_attr") else None
        found.append((int(message["info"]) >> 16, str(name or "")))
    return found


def _is_ours(priority: int, name: str) -> bool:
    return priority == _PRIORITY and name.startswith(_NAME_PREFIX)


def detach(ip: Netlink, ifindex: int) -> list[str]:
    """Remove our filters from the interface, and clsact with them if nobody else uses it. Names what was removed."""
    removed: list[str] = []
    for hook in Hook:
        for priority, name in _filters(ip, ifindex, hook):
            if _is_ours(priority, name):
                _delete(ip, ifindex, hook)
                removed.append(name.removeprefix(_NAME_PREFIX))
    if removed and not any(_filters(ip, ifindex, hook) for hook in Hook):
        gone = (errno.ENOENT, errno.EINVAL, errno.ENODEV)
        attempt(f"interface {ifindex}: remove clsact", gone, ip.tc, "del", "clsact", ifindex)
    return removed


def _delete(ip: Netlink, ifindex: int, hook: Hook) -> None:
    options: dict[str, Any] = {"parent": hook.value, "prio": _PRIORITY, "protocol": _ETH_P_ALL}
    gone = (errno.ENOENT, errno.ENODEV)
    attempt(f"interface {ifindex}: detach", gone, ip.tc, "del-filter", "bpf", ifindex, _HANDLE, **options)
