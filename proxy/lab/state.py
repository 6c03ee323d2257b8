"""What is remembered of a lab between commands: one JSON file in its folder, written once, before anything is made.

It serves `exec` and `list`. `down` does not need it.
"""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from proxy.lab.errors import LabError
from proxy.lab.inside import Place
from proxy.lab.model import FIRST_NODE
from proxy.lab.names import existing_labs, existing_netns, netns_path, state_dir
from proxy.lab.plan import Plan

FILE = "lab.json"


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod as `exec`, `list` and the tests see it."""

    ref: str
    v4: str
    v6: str
    interface: str
    runs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    node: str = FIRST_NODE

    @property
    def namespace(self) -> str:
        return self.ref.partition("/")[0]

    @property
    def name(self) -> str:
        return self.ref.partition("/")[2]


@dataclass(frozen=True, slots=True)
class LabState:
    """One lab. `services`: NAMESPACE/NAME → its own addresses, which lie in `service_cidrs`, if the lab translates."""

    name: str
    octet: int
    v4: str
    v6: str
    created: float
    policies: str = ""
    nodes: tuple[str, ...] = (FIRST_NODE,)
    services: dict[str, tuple[str, ...]] = field(default_factory=dict)
    service_cidrs: tuple[str, ...] = ()
    pods: dict[str, PodState] = field(default_factory=dict)
    hosts: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def directory(self) -> Path:
        return state_dir(self.name)

    @property
    def dns_hosts(self) -> Path:
        """The names that the cluster's DNS knows, and their addresses."""
        return self.directory / "dns.hosts"

    def log_file(self, ref: str, run: str = "run") -> Path:
        return self.directory / "logs" / f"{ref.replace('/', '.')}.{run}.log"

    def etc(self, ref: str) -> Path:
        return self.directory / "etc" / ref.replace("/", ".")

    def place(self, ref: str) -> Place:
        """Where `NAMESPACE/POD`, a node or `world` is."""
        if ref not in self.pods and ref not in {*self.nodes, "world"}:
            raise LabError(f"lab {self.name} has no pod {ref!r}", self._suggestion(ref))
        return Place(self.name, ref, netns_path(self.name, ref), self.etc(ref))

    def _suggestion(self, ref: str) -> str:
        known = [*self.pods, *self.nodes, "world"]
        near = [name for name in known if ref and (ref in name or name.endswith(f"/{ref}"))]
        near = near or difflib.get_close_matches(ref, known, n=3, cutoff=0.5)
        return f"did you mean {', '.join(near[:5])}?" if near else f"there are {', '.join(sorted(known)[:20])}"


def describe(plan: Plan, created: float, policies: Path | None) -> LabState:
    pods = {
        pod.ref: PodState(
            ref=pod.ref,
            v4=str(pod.v4),
            v6=str(pod.v6),
            interface=pod.interface,
            runs=tuple(name for name, _ in pod.spec.runs),
            ports=tuple(port.port for port in pod.spec.ports),
            node=pod.spec.node,
        )
        for pod in plan.pods
    }
    return LabState(
        name=plan.name,
        octet=plan.ranges.octet,
        v4=str(plan.ranges.v4),
        v6=str(plan.ranges.v6),
        created=created,
        policies=str(policies or ""),
        nodes=tuple(node.ref for node in plan.nodes),
        services={f"{one.spec.namespace}/{one.spec.name}": (str(one.v4), str(one.v6)) for one in plan.services},
        service_cidrs=tuple(map(str, plan.service_ranges)) if plan.services else (),
        pods=pods,
        hosts={host.name: host.addresses for host in plan.hosts},
    )


def save(state: LabState) -> None:
    temporary = state.directory / f".{FILE}"
    temporary.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
    os.replace(temporary, state.directory / FILE)


def load(name: str) -> LabState:
    """The lab of that name; a clear error if there is none, or only a part of one."""
    try:
        raw = json.loads((state_dir(name) / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        if existing_netns(name) or state_dir(name).is_dir():
            raise LabError(f"lab {name} is only half there", f"take it down: penstock lab down {name}") from error
        labs = existing_labs()
        hint = f"there is {', '.join(labs)}" if labs else "bring one up: penstock lab up -f workloads.yaml"
        raise LabError(f"there is no lab {name!r}", hint) from error
    pods = {
        ref: PodState(**{**pod, "runs": tuple(pod["runs"]), "ports": tuple(pod["ports"])})
        for ref, pod in raw.pop("pods").items()
    }
    for key in ("hosts", "services"):
        raw[key] = {name: tuple(addresses) for name, addresses in raw[key].items()}
    for key in ("nodes", "service_cidrs"):
        raw[key] = tuple(raw[key])
    return LabState(**raw, pods=pods)
