"""The schema of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: every field that Cilium knows.

Only form is judged here (names, types, closed lists); `translate.py` judges meaning and refuses what is not enforced.
A key that is missing or null is None, which differs from an empty list. Fields that Cilium had once (`fromRequires`,
`kafka`, `l7proto`) are known, so that they get their own answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

_CAMEL_EXCEPTIONS = {
    "terminating_tls": "terminatingTLS",
    "originating_tls": "originatingTLS",
    "trusted_ca": "trustedCA",
    "client_id": "clientID",
    "except_": "except",
}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return _CAMEL_EXCEPTIONS.get(name) or first + "".join(word.capitalize() for word in rest)


_PEER_SUFFIXES = {
    "endpoints": "Endpoints",
    "cidr": "CIDR",
    "cidr_set": "CIDRSet",
    "entities": "Entities",
    "nodes": "Nodes",
    "groups": "Groups",
    "requires": "Requires",
}


def _ingress_name(name: str) -> str:
    return "from" + _PEER_SUFFIXES[name] if name in _PEER_SUFFIXES else _camel(name)


def _egress_name(name: str) -> str:
    return "to" + _PEER_SUFFIXES[name] if name in _PEER_SUFFIXES else _camel(name)


_WORDS_FOR_BOOL = {"yes": True, "on": True, "y": True, "no": False, "off": False, "n": False}


def _yaml_bool(value: object) -> object:
    """Kubernetes reads YAML 1.1, where these words are booleans; where a boolean is wanted they mean the same here."""
    return _WORDS_FOR_BOOL.get(value.lower(), value) if isinstance(value, str) else value


Bool = Annotated[bool, BeforeValidator(_yaml_bool)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=_camel)


class MatchExpression(Strict):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] | None = None


class LabelSelector(Strict):
    match_labels: dict[str, str] | None = None
    match_expressions: list[MatchExpression] | None = None


class PeerSelector(LabelSelector):
    namespace_selector: LabelSelector | None = None


class CidrRule(Strict):
    cidr: str | None = None
    cidr_group_ref: str | None = None
    cidr_group_selector: LabelSelector | None = None
    except_: list[str] | None = None


class PortProtocol(Strict):
    port: str | None = None
    end_port: int | None = None
    protocol: str | None = None


class SecretRef(Strict):
    name: str
    namespace: str | None = None


class HeaderMatch(Strict):
    name: str
    value: str | None = None
    mismatch: str | None = None
    secret: SecretRef | None = None


class HttpFields(Strict):
    path: str | None = None
    method: str | None = None
    host: str | None = None
    headers: list[str] | None = None
    header_matches: list[HeaderMatch] | None = None


class DnsFields(Strict):
    match_name: str | None = None
    match_pattern: str | None = None
    query_types: list[str] | None = None


class KafkaFields(Strict):
    role: str | None = None
    api_key: str | None = None
    api_version: str | None = None
    client_id: str | None = None
    topic: str | None = None


class L7Rules(Strict):
    http: list[HttpFields] | None = None
    dns: list[DnsFields] | None = None
    kafka: list[KafkaFields] | None = None
    l7proto: str | None = None
    l7: list[dict[str, str]] | None = None


class TlsContext(Strict):
    secret: SecretRef
    trusted_ca: str | None = None
    certificate: str | None = None
    private_key: str | None = None


class EnvoyConfigRef(Strict):
    kind: Literal["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"] | None = None
    name: str = Field(min_length=1)


class Listener(Strict):
    envoy_config: EnvoyConfigRef
    name: str = Field(min_length=1)
    priority: int | None = Field(default=None, ge=1, le=100)


class PortDenyFields(Strict):
    ports: list[PortProtocol] | None = None


class PortFields(PortDenyFields):
    rules: L7Rules | None = None
    terminating_tls: TlsContext | None = None
    originating_tls: TlsContext | None = None
    server_names: list[str] | None = None
    listener: Listener | None = None


class IcmpField(Strict):
    family: str | None = None
    # A number or a name; which one is for translate.py, because a union would put its branches into error paths.
    type: Any


class IcmpFields(Strict):
    fields: list[IcmpField] | None = None


class AwsGroup(Strict):
    labels: dict[str, str] | None = None
    region: str | None = None
    security_groups_ids: list[str] | None = None
    security_groups_names: list[str] | None = None


class Group(Strict):
    aws: AwsGroup | None = None


class Authentication(Strict):
    mode: Literal["disabled", "required", "test-always-fail"]


class ServiceRef(Strict):
    service_name: str | None = None
    namespace: str | None = None


class ServiceSelector(Strict):
    selector: LabelSelector
    namespace: str | None = None


class ServiceFields(Strict):
    k8s_service: ServiceRef | None = Field(default=None, alias="k8sService")
    k8s_service_selector: ServiceSelector | None = Field(default=None, alias="k8sServiceSelector")


class FqdnFields(Strict):
    match_name: str | None = None
    match_pattern: str | None = None


class EntryFields(Strict):
    """One item of a rule's four lists. Peers have other names in each direction, see the subclasses."""

    endpoints: list[PeerSelector] | None = None
    cidr: list[str] | None = None
    cidr_set: list[CidrRule] | None = None
    entities: list[str] | None = None
    nodes: list[LabelSelector] | None = None
    groups: list[Group] | None = None
    requires: list[LabelSelector] | None = None
    icmps: list[IcmpFields] | None = None


class IngressDenyFields(EntryFields):
    model_config = ConfigDict(alias_generator=_ingress_name)
    to_ports: list[PortDenyFields] | None = None


class IngressFields(EntryFields):
    model_config = ConfigDict(alias_generator=_ingress_name)
    to_ports: list[PortFields] | None = None
    authentication: Authentication | None = None


class EgressDenyFields(EntryFields):
    model_config = ConfigDict(alias_generator=_egress_name)
    to_ports: list[PortDenyFields] | None = None
    to_services: list[ServiceFields] | None = None


class EgressFields(EntryFields):
    model_config = ConfigDict(alias_generator=_egress_name)
    to_ports: list[PortFields] | None = None
    to_services: list[ServiceFields] | None = None
    fqdns: list[FqdnFields] | None = Field(default=None, alias="toFQDNs")
    authentication: Authentication | None = None


class DefaultDeny(Strict):
    ingress: Bool | None = None
    egress: Bool | None = None


class RuleLabel(Strict):
    key: str
    value: str | None = None
    source: str | None = None


class Log(Strict):
    value: str | None = None


class RuleFields(Strict):
    endpoint_selector: LabelSelector | None = None
    node_selector: LabelSelector | None = None
    ingress: list[IngressFields] | None = None
    ingress_deny: list[IngressDenyFields] | None = None
    egress: list[EgressFields] | None = None
    egress_deny: list[EgressDenyFields] | None = None
    enable_default_deny: DefaultDeny | None = None
    labels: list[RuleLabel] | None = None
    description: str | None = None
    log: Log | None = None


class Metadata(Strict):
    """What matters, and what clusters write beside it. A misspelt `namespace` must not pass."""

    name: str = Field(min_length=1)
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    generate_name: Any = None
    creation_timestamp: Any = None
    deletion_timestamp: Any = None
    deletion_grace_period_seconds: Any = None
    finalizers: Any = None
    generation: Any = None
    managed_fields: Any = None
    owner_references: Any = None
    resource_version: Any = None
    self_link: Any = None
    uid: Any = None


class PolicyObject(Strict):
    api_version: str
    kind: str
    metadata: Metadata
    spec: RuleFields | None = None
    specs: list[RuleFields] | None = None
    status: Any = None
    # Where old manifests put it; it belongs into the rule.
    description: str | None = None
