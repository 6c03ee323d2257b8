"""Kubernetes manifests → `Manifests`: Namespace, Pod, the workload kinds, Service, and the lab's own World.

Other kinds are passed over with a note. What a manifest asks for and the lab cannot do is an error with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from proxy.lab.errors import LabError
from proxy.lab.located import Document, read_documents
from proxy.lab.model import FIRST_NODE, Manifests, OutsideHost, PodPort, PodSpec, ServicePort, ServiceSpec

RUN = "lab.penstock.io/run"
LAB_API = "lab.penstock.io/v1"
MAX_REPLICAS = 500
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NODE_NAME = re.compile(rf"{FIRST_NODE}(-[a-z0-9]{{1,16}})?")
_REPLICATED = {"Deployment", "StatefulSet", "ReplicaSet"}
_ONE_PER_NODE = {"DaemonSet"}


class _Reader:
    """Collects documents; the order of files and documents does not matter to the result's meaning."""

    def __init__(self, *, translates: bool) -> None:
        self._translates = translates
        self.namespaces: dict[str, dict[str, str]] = {}
        self.pods: dict[str, PodSpec] = {}
        self.services: dict[str, ServiceSpec] = {}
        self.hosts: dict[str, OutsideHost] = {}
        self.world_runs: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, document: Document) -> None:
        if not isinstance(document.value, dict):
            raise document.error("expected a manifest with apiVersion and kind")
        kind = document.need("kind", kind=str)
        if kind == "List":
            items = document.need("items", kind=list)
            for index, value in enumerate(items):
                self.add(Document(document.file, _item(document, index), value))
        elif kind == "Namespace":
            name = _name(document)
            self.namespaces.setdefault(name, {}).update(_labels(document, "metadata", "labels"))
        elif kind == "Pod":
            self._pod(document, _name(document), ("metadata",), ("spec",))
        elif kind in _REPLICATED or kind in _ONE_PER_NODE:
            self._workload(document, kind)
        elif kind == "Service":
            self._service(document)
        elif kind == "World" and document.get("apiVersion", kind=str, default="").startswith("lab.penstock.io/"):
            self._world(document)
        else:
            self.notes.append(f"{document.where()}: {kind} is not part of a lab, passed over")

    def _workload(self, document: Document, kind: str) -> None:
        replicas = document.get("spec", "replicas", kind=int, default=1) if kind in _REPLICATED else 1
        if not 0 <= replicas <= MAX_REPLICAS:
            raise document.error(f"replicas must be 0 to {MAX_REPLICAS}", "spec", "replicas")
        document.need("spec", "template", kind=dict)
        for index in range(replicas):
            name = f"{_name(document)}-{index}"
            self._pod(document, name, ("spec", "template", "metadata"), ("spec", "template", "spec"))

    def _pod(self, document: Document, name: str, metadata: tuple[str, ...], spec: tuple[str, ...]) -> None:
        namespace = document.get("metadata", "namespace", kind=str, default="default")
        if document.get(*spec, "hostNetwork", kind=bool, default=False):
            raise document.error("a lab has no pods with hostNetwork", *spec, "hostNetwork")
        account = document.get(*spec, "serviceAccountName", kind=str, default="default")
        node = document.get(*spec, "nodeName", kind=str, default=FIRST_NODE)
        if not _NODE_NAME.fullmatch(node):
            hint = f"a lab's nodes are called {FIRST_NODE}, {FIRST_NODE}-2, {FIRST_NODE}-b, ..."
            raise document.error(f"{node!r} cannot be the name of a node", *spec, "nodeName", hint=hint)
        pod = PodSpec(
            namespace=namespace,
            name=name,
            labels=_labels(document, *metadata, "labels"),
            ports=_container_ports(document, spec),
            runs=_runs(document, *metadata, "annotations"),
            service_account=account,
            node=node,
            where=document.where(),
        )
        if pod.ref in self.pods:
            raise document.error(f"pod {pod.ref} is already defined at {self.pods[pod.ref].where}")
        self.pods[pod.ref] = pod

    def _service(self, document: Document) -> None:
        name = _name(document)
        namespace = document.get("metadata", "namespace", kind=str, default="default")
        kind = document.get("spec", "type", kind=str, default="ClusterIP")
        if kind == "ExternalName":
            raise document.error(
                "a lab cannot serve a Service of type ExternalName", "spec", "type", hint="add the host to a World"
            )
        if kind != "ClusterIP":
            self.notes.append(f"{document.where('spec', 'type')}: Service {namespace}/{name} works as ClusterIP only")
        ports = []
        for index in range(len(document.get("spec", "ports", kind=list, default=[]))):
            path = ("spec", "ports", index)
            number = document.need(*path, "port", kind=int)
            ports.append(
                ServicePort(
                    port=number,
                    target=document.get(*path, "targetPort", kind=(int, str), default=number),
                    name=document.get(*path, "name", kind=str, default=""),
                    protocol=document.get(*path, "protocol", kind=str, default="TCP"),
                )
            )
        service = ServiceSpec(
            namespace=namespace,
            name=name,
            selector=_labels(document, "spec", "selector"),
            ports=tuple(ports),
            headless=document.get("spec", "clusterIP", kind=str, default="") == "None",
            where=document.where(),
        )
        self.services[f"{namespace}/{name}"] = service

    def _world(self, document: Document) -> None:
        for index in range(len(document.get("spec", "hosts", kind=list, default=[]))):
            path = ("spec", "hosts", index)
            name = document.need(*path, "name", kind=str)
            addresses = document.need(*path, "addresses", kind=list)
            self.hosts[name] = OutsideHost(name, tuple(map(str, addresses)))
        self.world_runs.update(_runs(document, "metadata", "annotations"))

    def result(self) -> Manifests:
        for pod in self.pods.values():
            self.namespaces.setdefault(pod.namespace, {})
        for service in self.services.values():
            self._check_service(service)
        return Manifests(
            namespaces=self.namespaces,
            pods=tuple(self.pods.values()),
            services=tuple(self.services.values()),
            hosts=tuple(self.hosts.values()),
            world_runs=tuple(self.world_runs.items()),
            notes=tuple(self.notes),
        )

    def _check_service(self, service: ServiceSpec) -> None:
        """Without translation a service is a name only: connections go to the pods, so its port must be theirs."""
        pods = [pod for pod in self.pods.values() if service.selects(pod)]
        if not pods:
            self.notes.append(f"{service.where}: Service {service.namespace}/{service.name} selects no pod")
        for port in service.ports:
            targets = {port.target_in(pod) for pod in pods}
            if self._translates and None in targets:
                raise LabError(
                    f"{service.where}: Service {service.namespace}/{service.name}: targetPort {port.target} names no "
                    "port of some of its pods"
                )
            if targets - {port.port} and not self._translates:
                shown = ", ".join(sorted("?" if target is None else str(target) for target in targets))
                raise LabError(
                    f"{service.where}: Service {service.namespace}/{service.name} maps port {port.port} to "
                    f"targetPort {port.target} (of its pods: {shown}); this lab does not translate addresses",
                    f"bring it up with --cluster-ips, or let the pods listen on {port.port}",
                )


def _item(document: Document, index: int) -> Any:
    """The node of one item of a List."""
    return next(value.value[index] for key, value in document.node.value if key.value == "items")


def _name(document: Document) -> str:
    name: str = document.need("metadata", "name", kind=str)
    if not _DNS_NAME.fullmatch(name):
        raise document.error(f"{name!r} is not a DNS name", "metadata", "name")
    return name


def _labels(document: Document, *path: str) -> Mapping[str, str]:
    labels = document.get(*path, kind=dict, default={})
    for key, value in labels.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise document.error(f"{key}: {value!r} is not text", *path, str(key), hint="put it in quotes")
    return dict(labels)


def _container_ports(document: Document, spec: tuple[str, ...]) -> tuple[PodPort, ...]:
    ports = []
    for container in range(len(document.get(*spec, "containers", kind=list, default=[]))):
        base: tuple[str | int, ...] = (*spec, "containers", container, "ports")
        for index in range(len(document.get(*base, kind=list, default=[]))):
            ports.append(
                PodPort(
                    port=document.need(*base, index, "containerPort", kind=int),
                    name=document.get(*base, index, "name", kind=str, default=""),
                    protocol=document.get(*base, index, "protocol", kind=str, default="TCP"),
                )
            )
    return tuple(ports)


def _runs(document: Document, *path: str) -> tuple[tuple[str, str], ...]:
    """`lab.penstock.io/run: CMD`, and `lab.penstock.io/run.NAME: CMD` for several."""
    runs = []
    for key, value in _labels(document, *path).items():
        if key == RUN:
            runs.append(("run", value))
        elif key.startswith(f"{RUN}."):
            runs.append((key.removeprefix(f"{RUN}."), value))
        elif key.startswith("lab.penstock.io/"):
            raise document.error(f"unknown annotation {key}", *path, key, hint=f"known: {RUN}, {RUN}.NAME")
    for name, _ in runs:
        if not _DNS_NAME.fullmatch(name):
            raise document.error(f"{name!r} cannot name a log file", *path)
    return tuple(runs)


def read_manifests(files: Iterable[Path], *, translates: bool = False) -> Manifests:
    """All manifests of the files; a folder stands for its .yaml and .yml files. `translates`: services have addresses
    of their own, and may map ports.
    """
    reader = _Reader(translates=translates)
    for file in files:
        if file.is_dir():
            found = sorted(path for path in file.iterdir() if path.suffix in {".yaml", ".yml"})
            if not found:
                raise LabError(f"{file}: no .yaml file in this folder")
        else:
            found = [file]
        for path in found:
            for document in read_documents(path):
                reader.add(document)
    return reader.result()
