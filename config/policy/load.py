"""Policy files → documents and findings. Never raises for what a file contains.

A file holds any number of documents: policies, `v1 List`s of them, and other objects, which are ignored with a note.
Each document stands for itself: what is wrong with one does not hide the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from config import codes
from config.findings import Code, Finding, PathItem, has_errors, make_finding
from config.policy.kubernetes import API_VERSIONS, NetworkPolicy, translate_network_policy
from config.policy.lockdown import Lockdown, may_select, mentions_deny
from config.policy.model import Metadata, PolicyObject
from config.policy.objects import (
    CidrGroupObject,
    broken_group,
    read_endpoints_object,
    read_group,
    read_service,
    read_slice,
)
from config.policy.rules import Document, Referenced
from config.policy.scope import Scope
from config.policy.translate import translate
from config.schema_errors import SchemaCodes, field_names, schema_findings
from config.text import read_file
from config.yaml_values import Place, Value, read_documents

NAMESPACED, CLUSTERWIDE = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
GROUP, KUBERNETES = "CiliumCIDRGroup", "NetworkPolicy"
API_VERSION = "cilium.io/v2"
DEFAULT_NAMESPACE = "default"

MAX_OBJECTS = 50_000
"""Objects in one file."""

MAX_FINDINGS = 5000
"""About one file."""

_VERSIONS: dict[str, tuple[str, ...]] = {
    NAMESPACED: (API_VERSION,),
    CLUSTERWIDE: (API_VERSION,),
    GROUP: (API_VERSION, "cilium.io/v2alpha1"),
    KUBERNETES: API_VERSIONS,
}
_REFERENCED = {("v1", "Service"), ("v1", "Endpoints"), ("discovery.k8s.io/v1", "EndpointSlice")}
_UNSUPPORTED: dict[tuple[str, str], Code] = {
    ("policy.networking.k8s.io", "ClusterNetworkPolicy"): codes.NOT_TIERED,
    ("policy.networking.k8s.io", "AdminNetworkPolicy"): codes.NOT_TIERED,
    ("policy.networking.k8s.io", "BaselineAdminNetworkPolicy"): codes.NOT_TIERED,
}
_POLICY_KINDS = sorted({*_VERSIONS, *(kind for _, kind in _UNSUPPORTED)})
_CODES = SchemaCodes(codes.SCHEMA_UNKNOWN, codes.SCHEMA_MISSING, codes.SCHEMA_TYPE, codes.SCHEMA_VALUE)
_FIELD_NAMES = {model: field_names(model) for model in (PolicyObject, NetworkPolicy, CidrGroupObject)}
_NOT_IN_DENY = frozenset(("rules", "terminatingTLS", "originatingTLS", "serverNames", "listener", "toFQDNs"))
_KUBERNETES_GROUPS = frozenset(version.partition("/")[0] for version in API_VERSIONS)
_M = TypeVar("_M", PolicyObject, NetworkPolicy, CidrGroupObject)
_OBJECT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")


@dataclass(frozen=True, slots=True)
class Summary:
    """One object of a file, whether it can be enforced or not."""

    kind: str
    namespace: str
    name: str
    valid: bool
    line: int


@dataclass(frozen=True, slots=True)
class LoadedFile:
    """All that one file says. `lockdowns`: what its broken parts may have been about."""

    path: str
    documents: tuple[Document, ...] = ()
    summaries: tuple[Summary, ...] = ()
    findings: tuple[Finding, ...] = ()
    lockdowns: tuple[Lockdown, ...] = ()
    objects: tuple[Referenced, ...] = ()

    @property
    def ok(self) -> bool:
        return not has_errors(self.findings)


def load_file(path: Path, name: str | None = None) -> LoadedFile:
    """Reads one file; `name` is how findings and origins call it."""
    shown = str(path) if name is None else name
    data = read_file(path, shown)
    if isinstance(data, Finding):
        return LoadedFile(shown, findings=(data,), lockdowns=(Lockdown(deny=True),))
    return parse_file(data, shown)


def parse_file(data: bytes, name: str) -> LoadedFile:
    return _FileReader(name, data).read()


def duplicates(files: Iterable[LoadedFile]) -> list[tuple[Document, Finding]]:
    """Documents whose object stands elsewhere, too. The first by file and line is the one that counts."""
    first: dict[tuple[str, str, str], Document] = {}
    doubles: list[Document] = []
    for file in files:
        for document in file.documents:
            known = first.setdefault(document.key, document)
            if known is document:
                continue
            if (document.file, document.line) < (known.file, known.line):
                first[document.key], document = document, known
            doubles.append(document)
    return [(document, _double(document, first[document.key])) for document in sorted(doubles, key=_place_of)]


def _place_of(document: Document) -> tuple[str, int]:
    return document.file, document.line


def _double(document: Document, first: Document) -> Finding:
    name = f"{document.namespace}/{document.name}" if document.namespace else document.name
    message = f"{document.kind} {name} exists already ({first.file}:{first.line})"
    return make_finding(codes.DOC_DUPLICATE, document.file, message, line=document.line, column=1)


@dataclass(slots=True)
class _FileReader:
    name: str
    data: bytes
    documents: list[Document] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    lockdowns: list[Lockdown] = field(default_factory=list)
    objects: list[Referenced] = field(default_factory=list)
    seen: int = 0

    def read(self) -> LoadedFile:
        documents, refused = read_documents(self.data)
        for document in documents:
            if document.value is not None:
                self._document(document.value, document.place)
        if refused is not None:
            # What follows the refused place cannot be known.
            self.findings.append(refused.finding(self.name))
            self.lockdowns.append(Lockdown(deny=mentions_deny(self.data.decode("latin-1"))))
        elif not self.summaries and not self.findings:
            self.findings.append(make_finding(codes.DOC_NONE, self.name, "the file holds no document"))
        return LoadedFile(
            self.name,
            tuple(self.documents),
            tuple(self.summaries),
            tuple(_told(sorted(self.findings))),
            tuple(self.lockdowns),
            tuple(self.objects),
        )

    def _document(self, value: Value, place: Place) -> None:
        self.seen += 1
        if self.seen > MAX_OBJECTS:
            if self.seen == MAX_OBJECTS + 1:
                message = f"more than {MAX_OBJECTS} objects in one file"
                self.findings.append(make_finding(codes.YAML_SIZE, self.name, message, line=place.line))
                self.lockdowns.append(Lockdown(deny=True))
            return
        if isinstance(value, list):
            self._refuse(codes.DOC_RULE_LIST, "this is a list of rules without kind and metadata", value, place)
            return
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            self._refuse(codes.DOC_NOT_OBJECT, "this is not an object with apiVersion and kind", value, place)
            return
        kind, version = value["kind"], value.get("apiVersion")
        if kind == "List" or (isinstance(kind, str) and kind.endswith("List") and isinstance(value.get("items"), list)):
            self._list(value, place)
            return
        kind, group = str(kind), version.partition("/")[0] if isinstance(version, str) else ""
        if (unsupported := _UNSUPPORTED.get((group, kind))) is not None:
            self._refuse(unsupported, f"{kind} is not enforced by this version", value, place)
        elif isinstance(version, str) and (version, kind) in _REFERENCED:
            self._referenced(value, place, kind)
        elif kind not in _VERSIONS or (kind == KUBERNETES and group not in _KUBERNETES_GROUPS):
            self._other(value, place, kind, group)
        elif version not in _VERSIONS[kind]:
            message = f'{kind} has apiVersion "{version}"; known: {" and ".join(_VERSIONS[kind])}'
            self._refuse(codes.DOC_API_VERSION, message, value, place, ("apiVersion",))
        elif kind == GROUP:
            self._group(value, place)
        else:
            self._policy(value, place, kind)

    def _list(self, value: dict[str, Value], place: Place) -> None:
        items = value.get("items")
        inside = place.items.get("items")
        if not isinstance(items, list) or inside is None:
            self._refuse(codes.DOC_NOT_OBJECT, "a List needs items", value, place)
            return
        for index, item in enumerate(items):
            self._document(item, inside.items[index])

    def _other(self, value: dict[str, Value], place: Place, kind: str, group: str) -> None:
        """Not a kind of policy – unless somebody meant one: a misspelt policy must not leave its pods open."""
        close = get_close_matches(kind, _POLICY_KINDS, n=1, cutoff=0.9)
        if close and (kind != close[0] or group in ("", "v1", "cilium.io")):
            apiversions = " or ".join(sorted(_groups_of(close[0])))
            message = f'"{kind}" of "{value.get("apiVersion")}" looks like {close[0]} of {apiversions}'
            self._refuse(codes.DOC_MISSPELT, message, value, place, ("kind",))
        else:
            self._ignore(value, place)

    def _ignore(self, value: dict[str, Value], place: Place) -> None:
        summary = _summary(value, place, valid=True)
        self.summaries.append(summary)
        message = f"{summary.kind} is not a policy: ignored"
        self.findings.append(
            make_finding(codes.DOC_OTHER_KIND, self.name, message, line=place.line, column=place.column)
        )

    def _refuse(self, code: Code, message: str, value: Value, place: Place, path: tuple[PathItem, ...] = ()) -> None:
        line, column = place.find(path)
        self.findings.append(make_finding(code, self.name, message, line=line, column=column, path=path))
        self.summaries.append(_summary(value, place, valid=False))
        if isinstance(value, dict) and value.get("kind") == GROUP:
            self._broken_group(value, place)
        else:
            self.lockdowns.append(may_select(value))

    def _policy(self, value: dict[str, Value], place: Place, kind: str) -> None:
        document = self._network_policy(value, place) if kind == KUBERNETES else self._cilium(value, place, kind)
        if document is None:
            self.summaries.append(_summary(value, place, valid=False))
            self.lockdowns.append(may_select(value))
        else:
            self.documents.append(document)
            self.summaries.append(Summary(kind, document.namespace, document.name, True, document.line))

    def _cilium(self, value: dict[str, Value], place: Place, kind: str) -> Document | None:
        policy = self._validated(PolicyObject, value, place)
        if policy is None:
            return None
        scope = self._scope(policy.metadata, place, kind)
        document = translate(policy, scope)
        self.findings.extend(scope.findings)
        return document

    def _network_policy(self, value: dict[str, Value], place: Place) -> Document | None:
        policy = self._validated(NetworkPolicy, value, place)
        if policy is None:
            return None
        scope = self._scope(policy.metadata, place, KUBERNETES)
        document = translate_network_policy(policy, scope)
        self.findings.extend(scope.findings)
        return document

    def _group(self, value: dict[str, Value], place: Place) -> None:
        group = None
        given = self._validated(CidrGroupObject, value, place)
        if given is not None:
            scope = self._scope(given.metadata, place, GROUP)
            group = read_group(given, scope)
            self.findings.extend(scope.findings)
        self.summaries.append(_summary(value, place, valid=group is not None))
        if group is None:
            self._broken_group(value, place)
        else:
            self.objects.append(group)

    def _broken_group(self, value: Value, place: Place) -> None:
        group = broken_group(value, self.name, place.line)
        if group is not None:
            self.objects.append(group)

    def _referenced(self, value: dict[str, Value], place: Place, kind: str) -> None:
        """Objects of Kubernetes; read as far as they can be."""
        summary = _summary(value, place, valid=True)
        self.summaries.append(summary)
        namespace, name = summary.namespace or DEFAULT_NAMESPACE, summary.name
        found: Referenced | None
        if kind == "Service":
            found = read_service(value, namespace, name, self.name, place.line)
        elif kind == "Endpoints":
            found = read_endpoints_object(value, namespace, name, self.name, place.line)
        else:
            found = read_slice(value, namespace, self.name, place.line)
        if found is not None:
            self.objects.append(found)

    def _validated(self, model: type[_M], value: dict[str, Value], place: Place) -> _M | None:
        """The object, if it has the form of its kind."""
        try:
            return model.model_validate(value)
        except ValidationError as problem:
            found = schema_findings(problem, self.name, place, _CODES, _FIELD_NAMES[model])
            self.findings.extend(_deny_finding(finding) for finding in found)
            return None

    def _scope(self, metadata: Metadata, place: Place, kind: str) -> Scope:
        namespace = (metadata.namespace or DEFAULT_NAMESPACE) if kind in (NAMESPACED, KUBERNETES) else ""
        scope = Scope(self.name, place, kind, namespace)
        if kind == CLUSTERWIDE and metadata.namespace:
            message = f'{kind} is cluster-wide: namespace "{metadata.namespace}" has no meaning'
            scope.add(codes.NAMESPACE_IGNORED, ("metadata", "namespace"), message)
        for key, text in (("name", metadata.name), ("namespace", namespace)):
            if text and not _OBJECT_NAME.match(text):
                scope.add(codes.NAMESPACE_BAD, ("metadata", key), f'"{text[:80]}" is not the name of an object')
        return scope


def _told(findings: list[Finding]) -> list[Finding]:
    """Not more than anybody reads; an error is among them if there is any."""
    if len(findings) <= MAX_FINDINGS:
        return findings
    told, rest = findings[:MAX_FINDINGS], findings[MAX_FINDINGS:]
    if not has_errors(told):
        told += [finding for finding in rest if finding.is_error][:1]
    message = f"{len(findings) - len(told)} more findings are not told"
    return [*told, make_finding(codes.DOC_MORE, rest[0].file, message, line=rest[0].line)]


def _deny_finding(finding: Finding) -> Finding:
    """L7 fields in a deny rule are unknown to the schema; say why."""
    key = finding.path.rpartition(".")[2]
    in_deny = "ingressDeny[" in finding.path or "egressDeny[" in finding.path
    if finding.code != codes.SCHEMA_UNKNOWN.id or not in_deny or key not in _NOT_IN_DENY:
        return finding
    return Finding(
        finding.file,
        finding.line,
        finding.column,
        codes.SCHEMA_DENY_L7.id,
        finding.severity,
        finding.path,
        f'"{key}" is not possible in a deny rule',
        codes.SCHEMA_DENY_L7.hint,
    )


def _groups_of(kind: str) -> set[str]:
    return {group for group, known in _UNSUPPORTED if known == kind} or set(_VERSIONS[kind][:1])


def _summary(value: Value, place: Place, *, valid: bool) -> Summary:
    content = value if isinstance(value, dict) else {}
    metadata = content.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    return Summary(
        _text(content.get("kind")), _text(named.get("namespace")), _text(named.get("name")), valid, place.line
    )


def _text(value: Value) -> str:
    return value if isinstance(value, str) else ""
