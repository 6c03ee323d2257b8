"""Taking a lab down, whatever state it is in: by names and by who is inside, never by a record of what was done.

The order matters: programs first (they hold namespaces and mounts), then namespaces (links, routes, rules and the
programs attached to links go with them), then mounts (the bpffs, and with it every pin), then files. Each step can be
repeated, so a `down` that was killed is finished by the next.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from proxy.lab import linux, processes
from proxy.lab.errors import LabError
from proxy.lab.names import LABS_DIR, existing_netns, state_dir
from proxy.lab.network import remove_namespace, remove_netns_dir

_ROUNDS = 20


def sweep(name: str) -> bool:
    """Remove everything of lab `name`; false if there was nothing."""
    state = state_dir(name)
    namespaces = existing_netns(name)
    mounts = _mounts_below(state)
    if not namespaces and not mounts and not state.exists():
        return False
    _end_processes(name, state)
    for path in namespaces:
        remove_namespace(path)
    for path in _mounts_below(state):
        linux.unmount(path)
    if _mounts_below(state):
        raise LabError(f"{state} still has mounts", "see `findmnt` and unmount them by hand")
    if state.exists():
        shutil.rmtree(state)
    _remove_if_last()
    return True


def _end_processes(name: str, state: Path) -> None:
    """A program may start another while it is being ended: look again until nobody is there."""
    for _ in range(_ROUNDS):
        found = {process.pid: process for process in processes.members(processes.netns_inodes(existing_netns(name)))}
        found |= {process.pid: process for process in processes.recorded(state)}
        found.pop(os.getpid(), None)
        if not found:
            return
        processes.end(found.values())
    raise LabError(f"programs keep starting in lab {name}", f"see `ip netns pids penstock-{name}.node`")


def _mounts_below(state: Path) -> list[Path]:
    """Innermost and latest first, each as often as it is mounted."""
    return [path for path in reversed(linux.mount_points()) if path == state or state in path.parents]


def _remove_if_last() -> None:
    """The folders above the labs go with the last lab."""
    remove_netns_dir()
    for folder in (LABS_DIR, LABS_DIR.parent):
        try:
            folder.rmdir()
        except OSError:
            return  # somebody else's things are in it
