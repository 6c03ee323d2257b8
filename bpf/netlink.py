"""Netlink work, in a thread of its own.

pyroute2's synchronous calls run an event loop of their own, which fails under one that is already running; the agent
has one. A thread inherits the network namespace of its creator, so the work happens in the caller's. pyroute2 is
imported on first use: the workers, which only read a map, never pay for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from bpf.errors import AttachError

T = TypeVar("T")

# A pyroute2.IPRoute. It makes its methods at runtime, so there is nothing for a type checker to see.
Netlink: TypeAlias = Any


def with_netlink(work: Callable[[Netlink], T]) -> T:
    """Run `work` with a netlink socket of the current network namespace; blocks until it is done."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        from pyroute2 import IPRoute  # type: ignore[attr-defined]
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            with IPRoute() as ip:  # type: ignore[no-untyped-call]
                outcome.append(work(ip))
        except NetlinkError as error:
            failure.append(AttachError(f"netlink: {error.args[-1]}"))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="netlink")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def netlink_errno(error: BaseException) -> int:
    """The errno of a pyroute2 error, 0 of any other."""
    number = getattr(error, "code", 0)
    return int(number) if isinstance(number, int) else 0


def attempt(
    doing: str, tolerated: tuple[int, ...], action: Callable[..., object], *what: object, **how: object
) -> bool:
    """Do it; False if the kernel said one of `tolerated`, an AttachError that says what was tried otherwise."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        action(*what, **how)
    except NetlinkError as error:
        if netlink_errno(error) in tolerated:
            return False
        raise AttachError(f"{doing}: {error.args[-1]}") from error
    return True
