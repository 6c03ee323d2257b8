"""What the agent tells a worker: a whole snapshot at first, then what is different in the next one.

A worker needs to know neither the addresses nor the identities of the cluster, only the policies of the endpoints on
its node; those may be thousands, of which a change of one policy touches a few.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from config.policy.resolved import Endpoint, EndpointPolicy, Origin, Snapshot
from proxy.worker.options import WorkerOptions

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class WorkerUpdate:
    """The snapshot to put in force, and what does not change while the worker lives."""

    options: WorkerOptions
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class WorkerChange:
    """What revision `revision` has that `base` has not; None stands for what is gone."""

    base: int
    revision: int
    endpoints: Mapping[int, Endpoint | None]
    policies: Mapping[int, EndpointPolicy | None]
    origins: Mapping[int, Origin | None]


def for_workers(snapshot: Snapshot) -> Snapshot:
    """The part of a snapshot that workers look at."""
    local = {number: endpoint for number, endpoint in snapshot.endpoints.items() if endpoint.is_local}
    return Snapshot(snapshot.revision, local, snapshot.policies, {}, {}, snapshot.origins)


def change_between(before: Snapshot, after: Snapshot) -> WorkerChange:
    """Of two snapshots `for_workers`."""
    return WorkerChange(
        base=before.revision,
        revision=after.revision,
        endpoints=_difference(before.endpoints, after.endpoints),
        policies=_difference(before.policies, after.policies),
        origins=_difference(before.origins, after.origins),
    )


def apply_change(snapshot: Snapshot, change: WorkerChange) -> Snapshot:
    """Raises ValueError if the change is not about this snapshot."""
    if snapshot.revision != change.base:
        raise ValueError(f"a change of revision {change.base}, but revision {snapshot.revision} is in force")
    return Snapshot(
        revision=change.revision,
        endpoints=_applied(snapshot.endpoints, change.endpoints),
        policies=_applied(snapshot.policies, change.policies),
        origins=_applied(snapshot.origins, change.origins),
    )


def _difference(before: Mapping[int, _V], after: Mapping[int, _V]) -> dict[int, _V | None]:
    """Unchanged parts of a snapshot are the same objects in the next one."""
    found: dict[int, _V | None] = {}
    if before is after:
        return found
    found.update((key, value) for key, value in after.items() if before.get(key) is not value)
    found.update((key, None) for key in before.keys() - after.keys())
    return found


def _applied(known: Mapping[int, _V], change: Mapping[int, _V | None]) -> dict[int, _V]:
    merged = {**known, **change}
    return {key: value for key, value in merged.items() if value is not None}
