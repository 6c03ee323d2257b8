"""The lab: Kubernetes manifests turned into network namespaces on this machine, to try and test policies with.

`Lab.up(name, manifests, policies=...)` builds one, `Lab.exec(pod, argv)` runs programs inside, `Lab.down()` leaves
nothing behind. The lab only drives other programs (ip, dnsmasq, `penstock run`); it knows nothing of eBPF.

    node      one namespace with the node's end of every veth; the agent runs in it
    NS/POD    one namespace per pod replica, `eth0` with a v4 and a v6 address
    world     one namespace behind the node's uplink, with the names and addresses of the outside
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.lab.errors import LabError as LabError
    from proxy.lab.lab import Lab as Lab

__all__ = ["Lab", "LabError"]


def __getattr__(name: str) -> object:
    # Loaded on first use: every pod starts `python -m proxy.lab.echo`, which must not pay for the whole lab.
    if name == "Lab":
        from proxy.lab.lab import Lab

        return Lab
    if name == "LabError":
        from proxy.lab.errors import LabError

        return LabError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
