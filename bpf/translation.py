"""Living with a node that translates addresses (services, in nftables or through kube-proxy): a small table of our own.

    table inet penstock
      untracked   packets that come back from to_pod or to_world through penstock0 have been through the node's
                  connection tracking already; seen a second time, with a destination that was translated before, they
                  would collide with their own entry and get another source port
      to_self     the node itself is behind the service: such packets take the way through penstock1, where they are
                  judged like those that leave the node (see node.ensure_service_routing)
      unjudged    a pod's packet to a service that no program judges behind the translation gets no further

`nft` does the work. Everything is one transaction, so there is no moment with half of it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bpf.errors import AttachError
from bpf.marks import BOUNCE_DEVICE, MARK_MASK, MARK_SERVICE, MARK_TO_SELF, MARK_UNTRACKED

TABLE: Final = "penstock"
_COUNT: Final = Path("/proc/sys/net/netfilter/nf_conntrack_count")
_MAX_ERROR: Final = 400


def is_available() -> bool:
    return shutil.which("nft") is not None


def is_in_use() -> bool:
    """Whether this network namespace tracks connections, as whatever translates addresses does."""
    try:
        return int(_COUNT.read_text()) > 0
    except (OSError, ValueError):
        return False


def ensure(judged: Iterable[int] | None) -> None:
    """Make the table. `judged`: interfaces whose way out has a program of ours; None: there are no services here."""
    bounced = f"meta mark and {MARK_UNTRACKED:#x} == {MARK_UNTRACKED:#x}"
    to_service = f"meta mark and {MARK_MASK:#x} == {MARK_SERVICE:#x}"
    lines = [
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        "  chain untracked {",
        "    type filter hook prerouting priority raw;",
        f'    iifname "{BOUNCE_DEVICE}" {bounced} notrack',
        "  }",
    ]
    if judged is not None:
        numbers = ", ".join(str(ifindex) for ifindex in sorted(judged))
        lines += [
            "  set judged {",
            "    type iface_index",
            *([f"    elements = {{ {numbers} }}"] if numbers else []),
            "  }",
            "  chain to_self {",
            "    type filter hook prerouting priority -90;",  # behind the translation
            f"    {to_service} fib daddr type local meta mark set meta mark or {MARK_TO_SELF:#x}",
            "  }",
            "  chain unjudged_out {",
            "    type filter hook postrouting priority 0;",
            f"    {to_service} oif != @judged counter drop",
            "  }",
            "  chain unjudged_in {",
            "    type filter hook input priority 0;",
            f"    {to_service} counter drop",
            "  }",
        ]
    _nft("\n".join([*lines, "}", ""]))


def remove() -> list[str]:
    """Take the table away. Says so if it was there."""
    if not is_available():
        return []
    listed = subprocess.run(["nft", "list", "table", "inet", TABLE], capture_output=True, check=False)
    if listed.returncode:
        return []
    _nft(f"delete table inet {TABLE}\n")
    return [f"nftables table inet {TABLE}"]


def _nft(script: str) -> None:
    try:
        done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    except OSError as error:
        raise AttachError(f"nft: {error.strerror} (Debian package: nftables)") from error
    if done.returncode:
        raise AttachError(f"nftables refused the table {TABLE}: {done.stderr.strip()[:_MAX_ERROR]}")
