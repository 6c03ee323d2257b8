"""L7 rules of any kind against a request of any kind: which matcher to ask, and what a rule has against a request."""

from __future__ import annotations

from functools import lru_cache

from config.policy.dns import DnsMatcher, dns_faults
from config.policy.faults import Fault
from config.policy.http import HttpMatcher, faults
from config.policy.kafka import KafkaMatcher, kafka_faults
from config.policy.resolved import DnsRule, HttpRule, KafkaRule, L7Kind, L7Rule, ServerName
from config.policy.sni import ServerNameMatcher, sni_faults
from parsers.facts import ClientHello, DnsQuery, HttpRequest, KafkaRequest

L7Facts = HttpRequest | DnsQuery | KafkaRequest | ClientHello
Rules = tuple[tuple[L7Rule, int], ...]

_KINDS: dict[type[L7Facts], L7Kind] = {
    HttpRequest: L7Kind.HTTP,
    DnsQuery: L7Kind.DNS,
    KafkaRequest: L7Kind.KAFKA,
    ClientHello: L7Kind.TLS,
}


def kind_of_request(request: L7Facts) -> L7Kind:
    return _KINDS[type(request)]


@lru_cache(maxsize=4096)
def http_matcher(rules: Rules) -> HttpMatcher:
    return HttpMatcher([(rule, origin) for rule, origin in rules if isinstance(rule, HttpRule)])


@lru_cache(maxsize=4096)
def dns_matcher(rules: Rules) -> DnsMatcher:
    return DnsMatcher([(rule, origin) for rule, origin in rules if isinstance(rule, DnsRule)])


@lru_cache(maxsize=4096)
def kafka_matcher(rules: Rules) -> KafkaMatcher:
    return KafkaMatcher([(rule, origin) for rule, origin in rules if isinstance(rule, KafkaRule)])


@lru_cache(maxsize=4096)
def server_name_matcher(rules: Rules) -> ServerNameMatcher:
    return ServerNameMatcher([(rule, origin) for rule, origin in rules if isinstance(rule, ServerName)])


def judge(rules: Rules, request: L7Facts) -> int | None:
    """The origin id of the first rule that permits the request; rules of another kind permit nothing."""
    match request:
        case HttpRequest():
            return http_matcher(rules).judge(request)
        case DnsQuery():
            return dns_matcher(rules).judge(request)
        case KafkaRequest():
            return kafka_matcher(rules).judge(request)
        case ClientHello():
            return server_name_matcher(rules).judge(request)


def faults_of(rule: L7Rule, request: L7Facts) -> list[Fault] | None:
    """Everything of the rule that the request does not satisfy; None if the two are of different kinds."""
    match rule, request:
        case HttpRule(), HttpRequest():
            return faults(rule, request)
        case DnsRule(), DnsQuery():
            return dns_faults(rule, request)
        case KafkaRule(), KafkaRequest():
            return kafka_faults(rule, request)
        case ServerName(), ClientHello():
            return sni_faults(rule, request)
    return None
