"""What the API says, and `AgentView`: what the agent must offer for it.

JSON keys follow Cilium's agent API where it has one (`StatusResponse`, `cilium.state`, `policy-enabled`, …), so that
scripts and eyes find what they know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from config.policy.resolve import Selection
from config.policy.resolved import Address, Snapshot
from config.policy.rules import Document
from proxy.flows.ring import FlowRing

Json = dict[str, Any]


class State(StrEnum):
    """OK; DEGRADED: enforcing, but not what the operator wrote or wants; FAILURE: not enforcing as it should."""

    OK = "Ok"
    DEGRADED = "Degraded"
    FAILURE = "Failure"


@dataclass(frozen=True, slots=True)
class Component:
    state: State
    msg: str = ""

    def to_json(self) -> Json:
        return {"state": self.state.value, "msg": self.msg}


@dataclass(frozen=True, slots=True)
class FindingView:
    """A finding of the policy or endpoints loader. `severity` is error, warning or info."""

    code: str
    severity: str
    file: str
    line: int
    column: int
    message: str
    hint: str = ""
    path: str = ""

    def to_json(self) -> Json:
        return {
            "code": self.code,
            "severity": self.severity,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "path": self.path,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class WorkerView:
    """`revision` is the one it enforces."""

    index: int
    pid: int
    is_ready: bool
    revision: int = 0
    restarts: int = 0
    connections: int = 0

    def to_json(self) -> Json:
        return {
            "index": self.index,
            "pid": self.pid,
            "ready": self.is_ready,
            "revision": self.revision,
            "restarts": self.restarts,
            "connections": self.connections,
        }


@dataclass(frozen=True, slots=True)
class PolicyState:
    """`stale_files`: files that are broken now, whose last good version stays in force. `denying_files`: broken ones
    that never were good; what they may select is under default deny. `enforcement` is the setting `enable-policy`."""

    revision: int
    enforcement: str = "default"
    audit: bool = False
    policies: int = 0
    stale_files: tuple[str, ...] = ()
    denying_files: tuple[str, ...] = ()
    findings: tuple[FindingView, ...] = ()

    @property
    def state(self) -> State:
        broken = self.stale_files or self.denying_files or any(f.severity == "error" for f in self.findings)
        return State.DEGRADED if broken else State.OK

    def to_json(self) -> Json:
        return {
            "state": self.state.value,
            "revision": self.revision,
            "enforcement": self.enforcement,
            "audit": self.audit,
            "policies": self.policies,
            "stale-files": list(self.stale_files),
            "denying-files": list(self.denying_files),
            "findings": [finding.to_json() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """The agent's state. `pending`: what it still waits for before it is ready. `counters` are exact totals."""

    version: str
    node_name: str
    started_ns: int
    policy: PolicyState
    datapath: Component
    workers: tuple[WorkerView, ...] = ()
    datapath_details: Mapping[str, object] = field(default_factory=dict)
    pending: tuple[str, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)

    @property
    def overall(self) -> Component:
        """One word for everything, and why it is not OK."""
        if self.pending:
            return Component(State.FAILURE, f"waiting for {', '.join(self.pending)}")
        down = [str(worker.index) for worker in self.workers if not worker.is_ready]
        if down:
            return Component(State.FAILURE, f"not ready: worker {', '.join(down)}")
        if self.datapath.state is State.FAILURE:
            return Component(State.FAILURE, f"datapath: {self.datapath.msg}")
        if self.policy.state is not State.OK:
            return Component(State.DEGRADED, self._policy_trouble())
        if self.datapath.state is not State.OK:
            return Component(State.DEGRADED, f"datapath: {self.datapath.msg}")
        return Component(State.OK, self.version)

    def _policy_trouble(self) -> str:
        stale, denying = len(self.policy.stale_files), len(self.policy.denying_files)
        parts = []
        if stale:
            parts.append(f"{_files(stale)} broken, last good version in force")
        if denying:
            parts.append(f"{_files(denying)} broken and never good, denying what it may select")
        return "; ".join(parts) or "errors in the configuration, see findings"


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"


class Source(StrEnum):
    """Why an address counts for a name: a lookup whose time is not up, or a connection that lives on."""

    LOOKUP = "lookup"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class LearntName:
    """What DNS told an endpoint: addresses of a name (no final dot) that expire together. Times are in seconds since
    1970, `ttl` in seconds."""

    endpoint: int
    name: str
    addresses: tuple[Address, ...]
    ttl: int
    looked_up_s: float
    expires_s: float
    source: Source


class NameCache(Protocol):
    """What endpoints have learnt from DNS."""

    async def learnt(self) -> list[LearntName]: ...

    async def clean(self, pattern: str | None, endpoint: int | None) -> int:
        """Forget names by a glob (None: all), of one endpoint or all, and close what they opened. Says how many."""
        ...


class AgentView(Protocol):
    """What the server reads. All calls are made in the agent's event loop, and quick but for those with `async`.

    `snapshot` is the one in force, `documents` what it was resolved from; `flows` never changes; `config` is the
    effective settings as JSON values, with the source of each under the same key in `config_sources`.
    """

    @property
    def flows(self) -> FlowRing: ...

    @property
    def names(self) -> NameCache: ...

    def status(self) -> AgentStatus: ...

    def snapshot(self) -> Snapshot: ...

    def documents(self) -> tuple[Document, ...]: ...

    async def selections(self) -> list[Selection]: ...

    def config(self) -> Mapping[str, object]: ...

    def config_sources(self) -> Mapping[str, str]: ...


class ApiError(Exception):
    """An answer other than 200, on both sides of the socket."""

    def __init__(self, status: int, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint

    def to_json(self) -> Json:
        return {"error": {"code": self.code, "message": self.message, "hint": self.hint}}
