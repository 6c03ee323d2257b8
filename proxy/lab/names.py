"""How everything of a lab is called. `lab down` finds a lab by these names alone, so they are the only truth.

Network namespaces: `penstock-LAB.node`, `penstock-LAB.world`, `penstock-LAB.NAMESPACE.POD` below /run/netns, where
`ip netns list` shows them. Everything else is one folder, /run/penstock/labs/LAB.
"""

from __future__ import annotations

import re
from pathlib import Path

from proxy.lab.errors import LabError

NETNS_DIR = Path("/run/netns")
LABS_DIR = Path("/run/penstock/labs")
INTERFACE_MAX = 15  # IFNAMSIZ - 1
_LAB_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?")


def check_lab_name(name: str) -> str:
    """A lab's name has no dot: the dot ends it in the names of its namespaces."""
    if not _LAB_NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot be the name of a lab", "use 1 to 24 lower-case letters, digits and dashes, e.g. `shop-2`"
        )
    return name


def netns_name(lab: str, member: str) -> str:
    """`member` is `node`, `world` or NAMESPACE/POD."""
    return f"penstock-{lab}.{member.replace('/', '.')}"


def netns_path(lab: str, member: str) -> Path:
    return NETNS_DIR / netns_name(lab, member)


def existing_netns(lab: str) -> list[Path]:
    """The lab's namespaces that exist now, whoever made them and however far that got."""
    if not NETNS_DIR.is_dir():
        return []
    prefix = f"penstock-{lab}."
    return sorted(path for path in NETNS_DIR.iterdir() if path.name.startswith(prefix))


def state_dir(lab: str) -> Path:
    return LABS_DIR / lab


def existing_labs() -> list[str]:
    """Names of all labs of which anything is left."""
    found = {path.name for path in LABS_DIR.iterdir() if path.is_dir()} if LABS_DIR.is_dir() else set()
    if NETNS_DIR.is_dir():
        for path in NETNS_DIR.iterdir():
            if path.name.startswith("penstock-") and "." in path.name:
                found.add(path.name.removeprefix("penstock-").split(".", 1)[0])
    return sorted(found)


def interface_name(index: int, pod: str) -> str:
    """The node's end of a pod's veth: unique by its number, readable by the pod's name."""
    return f"p{index}-{pod.replace('.', '-')}"[:INTERFACE_MAX]
