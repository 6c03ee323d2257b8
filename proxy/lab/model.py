"""What the manifests say, in the lab's own terms. `proxy.lab.manifests` builds it, `proxy.lab.plan` places it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_NODE = "node"


@dataclass(frozen=True, slots=True)
class PodPort:
    """A containerPort: declared, not opened. `protocol` is TCP, UDP or SCTP."""

    port: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class PodSpec:
    """One pod replica. `runs` are (name, shell command): what the lab starts in it. `node`: where it runs."""

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PodPort, ...] = ()
    runs: tuple[tuple[str, str], ...] = ()
    service_account: str = "default"
    node: str = FIRST_NODE
    where: str = ""

    @property
    def ref(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """`target` is a number, or the name of a containerPort of the selected pods."""

    port: int
    target: int | str
    name: str = ""
    protocol: str = "TCP"

    def target_in(self, pod: PodSpec) -> int | None:
        """The port's number in one of the pods; None if it names none there."""
        if isinstance(self.target, int):
            return self.target
        if self.target.isdigit():
            return int(self.target)
        return next((declared.port for declared in pod.ports if declared.name == self.target), None)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A name for the pods it selects, with an address of its own if the lab translates. Headless services also name
    each of their pods.
    """

    namespace: str
    name: str
    selector: Mapping[str, str]
    ports: tuple[ServicePort, ...] = ()
    headless: bool = False
    where: str = ""

    def selects(self, pod: PodSpec) -> bool:
        return (
            bool(self.selector)
            and pod.namespace == self.namespace
            and all(pod.labels.get(key) == value for key, value in self.selector.items())
        )


@dataclass(frozen=True, slots=True)
class OutsideHost:
    """A name of the outside world and its addresses."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifests:
    """Everything read from the files given, in their order. `notes` are things the user should know."""

    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pods: tuple[PodSpec, ...] = ()
    services: tuple[ServiceSpec, ...] = ()
    hosts: tuple[OutsideHost, ...] = ()
    world_runs: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
