"""The endpoints file: which workloads there are, with their labels, addresses and interfaces.

cluster: default                                      # optional
namespaces: [{name: web, labels: {team: a}}]          # optional; kubernetes.io/metadata.name is always added
endpoints:
- name: frontend-0
  namespace: web
  labels: {app: frontend}
  serviceAccount: web                                 # optional
  addresses: [10.9.1.5, "fd09::5"]
  interface: veth12                                   # the node's end of its veth, or
  netns: /run/netns/x                                 # its network namespace; with neither: on another node
  ports: [{name: http, containerPort: 80, protocol: TCP}]
  audit: false
nodes: [{name: node-2, labels: {zone: a}, addresses: [192.0.2.9]}]   # optional: other nodes (identity remote-node)
kubeApiServer: [192.0.2.10]                           # optional
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from config import codes
from config.findings import Code, Finding, ValuePath, has_errors, make_finding
from config.identity import FIRST_POD, assign_numbers
from config.labels import node_labels, pod_labels
from config.policy.resolved import Address, ContainerPort, Protocol
from config.schema_errors import SchemaCodes, field_names, schema_findings
from config.text import read_file
from config.yaml_values import Place, read_documents

FIRST_ENDPOINT, LAST_ENDPOINT = 1, 65535
_INTERFACE_NAME_LONGEST = 15  # IFNAMSIZ - 1
_CODES = SchemaCodes(codes.EPF_SCHEMA, codes.EPF_SCHEMA, codes.EPF_SCHEMA, codes.EPF_SCHEMA)


@dataclass(frozen=True, slots=True)
class Workload:
    """One endpoint as the file gives it. `labels` are complete: with namespace, cluster and service account."""

    id: int
    namespace: str
    name: str
    labels: frozenset[str]
    addresses: tuple[Address, ...]
    interface: str = ""
    netns: str = ""
    ports: tuple[ContainerPort, ...] = ()
    audit: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """Another node. `labels` are those of its identity: `reserved:remote-node` and `node:key=value`."""

    name: str
    labels: frozenset[str]
    addresses: tuple[Address, ...]


@dataclass(frozen=True, slots=True)
class EndpointsFile:
    """Everything the file says. `findings` with an error mean that nothing else is filled in."""

    endpoints: tuple[Workload, ...] = ()
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: MappingProxyType({}))
    cluster: str = "default"
    nodes: tuple[Node, ...] = ()
    api_servers: tuple[Address, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings)

    def on_this_node(self) -> EndpointsFile:
        """As if all pods ran here: for questions about policies that are asked without a node."""
        here = (
            pod if pod.interface or pod.netns else replace(pod, interface=f"{pod.namespace}/{pod.name}")
            for pod in self.endpoints
        )
        return replace(self, endpoints=tuple(here))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _Port(_Strict):
    name: str
    container_port: int = Field(alias="containerPort", ge=1, le=65535)
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"


class _Namespace(_Strict):
    name: str = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)


class _Node(_Strict):
    name: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    addresses: list[str]


class _Endpoint(_Strict):
    name: str = Field(min_length=1)
    namespace: str = Field(default="default", min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)
    service_account: str = Field(default="", alias="serviceAccount")
    addresses: list[str]
    interface: str = Field(default="", max_length=_INTERFACE_NAME_LONGEST)
    netns: str = ""
    ports: list[_Port] = Field(default_factory=list)
    audit: bool = False


class _File(_Strict):
    cluster: str = Field(default="default", min_length=1)
    namespaces: list[_Namespace] = Field(default_factory=list)
    endpoints: list[_Endpoint] = Field(default_factory=list)
    nodes: list[_Node] = Field(default_factory=list)
    kube_api_server: list[str] = Field(default_factory=list, alias="kubeApiServer")


def load_endpoints(path: Path) -> EndpointsFile:
    """Reads the file; never raises for what is in it."""
    data = read_file(path)
    if isinstance(data, Finding):
        return EndpointsFile(findings=(data,))
    return parse_endpoints(data, str(path))


def parse_endpoints(data: bytes, file: str) -> EndpointsFile:
    documents, refused = read_documents(data)
    if refused is not None:
        return EndpointsFile(findings=(refused.finding(file),))
    if len(documents) > 1:
        place = documents[1].place
        message = "an endpoints file is one document"
        return EndpointsFile(findings=(make_finding(codes.EPF_SCHEMA, file, message, line=place.line),))
    if not documents or documents[0].value is None:
        return EndpointsFile()
    value, place = documents[0].value, documents[0].place
    try:
        model = _File.model_validate(value)
    except ValidationError as problem:
        return EndpointsFile(findings=tuple(schema_findings(problem, file, place, _CODES, field_names(_File))))
    return _Reader(model, file, place).read()


class _Reader:
    """The second look: addresses, duplicates, labels."""

    def __init__(self, model: _File, file: str, place: Place) -> None:
        self._model = model
        self._file = file
        self._place = place
        self._findings: list[Finding] = []
        self._seen: dict[tuple[str, object], str] = {}

    def read(self) -> EndpointsFile:
        model = self._model
        namespaces = self._namespaces()
        ids = assign_numbers(
            (f"{item.namespace}/{item.name}" for item in model.endpoints), FIRST_ENDPOINT, LAST_ENDPOINT, "endpoint"
        )
        workloads = [
            self._workload(item, index, namespaces, ids[f"{item.namespace}/{item.name}"])
            for index, item in enumerate(model.endpoints)
        ]
        nodes = [self._node(item, index) for index, item in enumerate(model.nodes)]
        servers = self._addresses(model.kube_api_server, ("kubeApiServer",), "the API server")
        labels = {item.labels for item in workloads}
        if len(labels) > LAST_ENDPOINT - FIRST_POD:
            self._add(codes.EPF_SCHEMA, "more different sets of labels than identities", ("endpoints",))
        if self._findings:
            return EndpointsFile(findings=tuple(sorted(self._findings)))
        return EndpointsFile(
            endpoints=tuple(sorted(workloads, key=lambda item: (item.namespace, item.name))),
            namespaces=MappingProxyType(namespaces),
            cluster=model.cluster,
            nodes=tuple(nodes),
            api_servers=tuple(servers),
        )

    def _namespaces(self) -> dict[str, Mapping[str, str]]:
        found: dict[str, Mapping[str, str]] = {}
        for index, item in enumerate(self._model.namespaces):
            path: ValuePath = ("namespaces", index)
            self._once("namespace", item.name, (*path, "name"), "this list")
            self._check_labels(item.labels, (*path, "labels"))
            found[item.name] = MappingProxyType(dict(item.labels))
        return found

    def _workload(
        self, item: _Endpoint, index: int, namespaces: Mapping[str, Mapping[str, str]], number: int
    ) -> Workload:
        path: ValuePath = ("endpoints", index)
        owner = f"{item.namespace}/{item.name}"
        self._once("endpoint", owner, (*path, "name"), owner)
        if item.interface:
            self._once("interface", item.interface, (*path, "interface"), owner)
        if item.interface and item.netns:
            self._add(codes.EPF_SCHEMA, "interface and netns exclude each other", (*path, "netns"))
        self._check_labels(item.labels, (*path, "labels"))
        return Workload(
            id=number,
            namespace=item.namespace,
            name=item.name,
            labels=pod_labels(
                item.labels,
                item.namespace,
                namespaces.get(item.namespace, {}),
                self._model.cluster,
                item.service_account,
            ),
            addresses=self._addresses(item.addresses, (*path, "addresses"), owner),
            interface=item.interface,
            netns=item.netns,
            ports=tuple(ContainerPort(port.name, port.container_port, Protocol[port.protocol]) for port in item.ports),
            audit=item.audit,
        )

    def _node(self, item: _Node, index: int) -> Node:
        self._check_labels(item.labels, ("nodes", index, "labels"))
        addresses = self._addresses(item.addresses, ("nodes", index, "addresses"), f"node {item.name}")
        return Node(item.name, node_labels(item.labels), addresses)

    def _addresses(self, texts: list[str], path: ValuePath, owner: str) -> tuple[Address, ...]:
        found: list[Address] = []
        for index, text in enumerate(texts):
            where = (*path, index)
            try:
                address = ip_address(text)
            except ValueError:
                self._add(codes.EPF_ADDRESS, f'"{text}" is not an IP address', where)
                continue
            self._once("address", address, where, owner)
            found.append(address)
        return tuple(found)

    def _check_labels(self, labels: Mapping[str, str], path: ValuePath) -> None:
        for key in labels:
            if not key or ":" in key or "=" in key:
                self._add(codes.EPF_LABEL, f'"{key}" is not the key of a label; sources are added by themselves', path)

    def _once(self, what: str, value: object, path: ValuePath, owner: str) -> None:
        if (what, value) in self._seen:
            first = self._seen[what, value]
            self._add(codes.EPF_DUPLICATE, f'{what} "{value}" is given twice (first by {first})', path)
        self._seen[what, value] = owner

    def _add(self, code: Code, message: str, path: ValuePath) -> None:
        line, column = self._place.find(path)
        self._findings.append(make_finding(code, self._file, message, line=line, column=column, path=path))
