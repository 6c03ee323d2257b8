"""Kubernetes manifests → the endpoints that they bring about, in place of an endpoints file.

Pods, what makes pods (Deployment, StatefulSet, DaemonSet, ReplicaSet, ReplicationController, Job, CronJob) and
Namespaces are read; other kinds are passed over. Files may mix with endpoints files. A workload NAME stands for its
pods NAME-0, NAME-1, …; pods of the host's network are none of ours, so they are left out. Pods have an address only
if their status says one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType

from config import codes
from config.endpoints import FIRST_ENDPOINT, LAST_ENDPOINT, EndpointsFile, Workload, parse_endpoints
from config.files import policy_files
from config.findings import Code, Finding, ValuePath, make_finding
from config.identity import assign_numbers
from config.labels import K8S, NAMESPACE_LABELS, label, pod_labels
from config.policy.resolved import Address, ContainerPort, Protocol
from config.text import read_file
from config.yaml_values import Place, Value, YamlDocument, read_documents

MAX_REPLICAS = 100
"""Pods of one workload: all have the same labels, so that more would not be judged otherwise."""

DEFAULT_NAMESPACE = "default"
DEFAULT_ACCOUNT = "default"
"""The service account that Kubernetes gives a pod that names none."""

_TEMPLATE = ("spec", "template")
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "Deployment": _TEMPLATE,
    "StatefulSet": _TEMPLATE,
    "DaemonSet": _TEMPLATE,
    "ReplicaSet": _TEMPLATE,
    "ReplicationController": _TEMPLATE,
    "Job": _TEMPLATE,
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_REPLICATED = frozenset(("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"))
_PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}


@dataclass(frozen=True, slots=True)
class _Pod:
    namespace: str
    name: str
    labels: Mapping[str, str]
    service_account: str
    ports: tuple[ContainerPort, ...]
    addresses: tuple[Address, ...]
    place: _Where


@dataclass(frozen=True, slots=True)
class _Where:
    file: str
    line: int


def read_endpoints(paths: Iterable[Path]) -> EndpointsFile:
    """All endpoints of these files and folders; never raises for what is in them."""
    reader = _Reader()
    for path in paths:
        reader.add_path(path)
    return reader.result()


@dataclass(slots=True)
class _Reader:
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    pods: list[_Pod] = field(default_factory=list)
    files: list[EndpointsFile] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add_path(self, path: Path) -> None:
        try:
            found = policy_files(path) if path.is_dir() else [path]
        except OSError as problem:
            message = f"the folder cannot be listed: {problem.strerror}"
            self.findings.append(make_finding(codes.FILE_UNREADABLE, str(path), message))
            return
        for file in found:
            data = read_file(file)
            if isinstance(data, Finding):
                self.findings.append(data)
            else:
                self._add_file(data, str(file))

    def _add_file(self, data: bytes, file: str) -> None:
        documents, refused = read_documents(data)
        if refused is not None:
            self.findings.append(refused.finding(file))
            return
        given = [document for document in documents if document.value is not None]
        if given and all(isinstance(item.value, dict) and "kind" not in item.value for item in given):
            known = parse_endpoints(data, file)
            self.findings.extend(known.findings)
            self.files.append(known)
            return
        for document in given:
            for value, place in _objects(document):
                _ObjectReader(self, file, value, place).read()

    def result(self) -> EndpointsFile:
        for known in self.files:
            for name, labels in known.namespaces.items():
                self.namespaces.setdefault(name, {}).update(labels)
        cluster = next((known.cluster for known in self.files), EndpointsFile().cluster)
        workloads = [self._joined(item) for known in self.files for item in known.endpoints]
        workloads += [self._workload(pod, cluster) for pod in self.pods]
        self._refuse_doubles(workloads)
        if len(workloads) > LAST_ENDPOINT - FIRST_ENDPOINT:
            self.findings.append(
                make_finding(codes.EPF_SCHEMA, "", f"{len(workloads)} pods are more than there are ids")
            )
        if self.findings:
            return EndpointsFile(findings=tuple(sorted(self.findings)))
        names = [f"{item.namespace}/{item.name}" for item in workloads]
        ids = assign_numbers(names, FIRST_ENDPOINT, LAST_ENDPOINT, "endpoint")
        numbered = (replace(item, id=ids[name]) for item, name in zip(workloads, names, strict=True))
        whole = EndpointsFile(
            endpoints=tuple(sorted(numbered, key=lambda item: (item.namespace, item.name))),
            namespaces=MappingProxyType({name: MappingProxyType(labels) for name, labels in self.namespaces.items()}),
            cluster=cluster,
        )
        return _with_nodes(whole, self.files)

    def _joined(self, item: Workload) -> Workload:
        """With the labels that other files give its namespace."""
        more = self.namespaces.get(item.namespace, {})
        return replace(item, labels=item.labels | {label(K8S, NAMESPACE_LABELS + key, more[key]) for key in more})

    def _workload(self, pod: _Pod, cluster: str) -> Workload:
        labels = pod_labels(
            pod.labels, pod.namespace, self.namespaces.get(pod.namespace, {}), cluster, pod.service_account
        )
        return Workload(0, pod.namespace, pod.name, labels, pod.addresses, ports=pod.ports)

    def _refuse_doubles(self, workloads: Iterable[Workload]) -> None:
        places = {(pod.namespace, pod.name): pod.place for pod in self.pods}
        seen: dict[object, str] = {}
        for item in workloads:
            name = f"{item.namespace}/{item.name}"
            for what, value in (("pod", name), *(("address", address) for address in item.addresses)):
                if (what, value) in seen:
                    where = places.get((item.namespace, item.name), _Where("", 0))
                    message = f'{what} "{value}" is given twice (first by {seen[what, value]})'
                    self.findings.append(make_finding(codes.EPF_DUPLICATE, where.file, message, line=where.line))
                seen[what, value] = name


def _with_nodes(whole: EndpointsFile, files: Iterable[EndpointsFile]) -> EndpointsFile:
    """Nodes and API servers stand in endpoints files only."""
    known = list(files)
    return replace(
        whole,
        nodes=tuple(dict.fromkeys(node for file in known for node in file.nodes)),
        api_servers=tuple(dict.fromkeys(address for file in known for address in file.api_servers)),
    )


def _objects(document: YamlDocument) -> Iterator[tuple[Value, Place]]:
    """The objects of a document: itself, or the items of a List, which may hold Lists."""
    todo = [(document.value, document.place)]
    while todo:
        value, place = todo.pop()
        items = value.get("items") if isinstance(value, dict) and str(value.get("kind", "")).endswith("List") else None
        if isinstance(items, list) and "items" in place.items:
            inside = place.items["items"]
            todo.extend((item, inside.items[index]) for index, item in reversed(list(enumerate(items))))
        else:
            yield value, place


class _Wrong(Exception):
    """A value of the wrong type, at `path`."""

    def __init__(self, message: str, path: ValuePath) -> None:
        super().__init__(message)
        self.path = path


class _ObjectReader:
    """One object. What is wrong with it is found fault with, and it is left out."""

    def __init__(self, reader: _Reader, file: str, value: Value, place: Place) -> None:
        self._reader = reader
        self._file = file
        self._value = value
        self._place = place

    def read(self) -> None:
        kind = self._value.get("kind") if isinstance(self._value, dict) else None
        try:
            if kind == "Namespace":
                labels = self._labels(("metadata", "labels"))
                self._reader.namespaces.setdefault(self._name(), {}).update(labels)
            elif isinstance(kind, str) and kind in _TEMPLATES:
                self._reader.pods.extend(self._pods(kind, _TEMPLATES[kind]))
        except _Wrong as problem:
            self._add(codes.EPF_SCHEMA, str(problem), problem.path)

    def _pods(self, kind: str, template: tuple[str, ...]) -> Iterator[_Pod]:
        spec = (*template, "spec")
        if self._get((*spec, "hostNetwork")) is True:
            return
        name = self._name()
        pod = _Pod(
            namespace=self._text(("metadata", "namespace")) or DEFAULT_NAMESPACE,
            name=name,
            labels=self._labels((*template, "metadata", "labels")),
            service_account=self._text((*spec, "serviceAccountName"))
            or self._text((*spec, "serviceAccount"))
            or DEFAULT_ACCOUNT,
            ports=tuple(self._ports(spec)),
            addresses=tuple(dict.fromkeys(self._addresses())) if kind == "Pod" else (),
            place=_Where(self._file, self._place.line),
        )
        if kind == "Pod":
            yield pod
            return
        replicas = self._get(("spec", "replicas")) if kind in _REPLICATED else 1
        count = replicas if isinstance(replicas, int) else 1
        # One pod even of none: what it would be allowed is a fair question.
        yield from (replace(pod, name=f"{name}-{number}") for number in range(max(1, min(count, MAX_REPLICAS))))

    def _name(self) -> str:
        name = self._text(("metadata", "name")) or self._text(("metadata", "generateName")).rstrip("-")
        if not name:
            raise _Wrong("an object without a name", ("metadata",))
        return name

    def _ports(self, spec: ValuePath) -> Iterator[ContainerPort]:
        for group in ("initContainers", "containers"):
            for index in range(len(self._list((*spec, group)))):
                base = (*spec, group, index, "ports")
                for number in range(len(self._list(base))):
                    name = self._text((*base, number, "name"))
                    port = self._get((*base, number, "containerPort"))
                    protocol = self._text((*base, number, "protocol")) or "TCP"
                    if not isinstance(port, int) or not 1 <= port <= 65535 or protocol not in _PROTOCOLS:
                        raise _Wrong("this is no port of a container", (*base, number))
                    if name:
                        yield ContainerPort(name, port, _PROTOCOLS[protocol])

    def _addresses(self) -> Iterator[Address]:
        texts = [self._text(("status", "podIP"))]
        texts += [
            self._text(("status", "podIPs", index, "ip")) for index in range(len(self._list(("status", "podIPs"))))
        ]
        for text in filter(None, texts):
            try:
                yield ip_address(text)
            except ValueError:
                raise _Wrong(f'"{text}" is not an IP address', ("status",)) from None

    def _labels(self, path: ValuePath) -> dict[str, str]:
        given = self._get(path)
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise _Wrong("labels are a mapping", path)
        for key, value in given.items():
            if not key or ":" in key or "=" in key:
                raise _Wrong(f'"{key}" is not the key of a label', (*path, key))
            if not isinstance(value, str):
                raise _Wrong(f'the value of label "{key}" is not text: put it in quotes', (*path, key))
        return {key: value for key, value in given.items() if isinstance(value, str)}

    def _list(self, path: ValuePath) -> list[Value]:
        found = self._get(path)
        if found is None:
            return []
        if not isinstance(found, list):
            raise _Wrong("a list is wanted here", path)
        return found

    def _text(self, path: ValuePath) -> str:
        found = self._get(path)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise _Wrong("text is wanted here", path)
        return found

    def _get(self, path: ValuePath) -> Value:
        """The value at `path`; None if it or anything above is not there."""
        value = self._value
        for item in path:
            if isinstance(item, int) and isinstance(value, list):
                value = value[item]
            elif isinstance(item, str) and isinstance(value, dict):
                value = value.get(item)
            elif value is None:
                return None
            else:
                raise _Wrong("a list is wanted here" if isinstance(item, int) else "a mapping is wanted here", path)
        return value

    def _add(self, code: Code, message: str, path: ValuePath) -> None:
        line, column = self._place.find(path)
        self._reader.findings.append(make_finding(code, self._file, message, line=line, column=column, path=path))
