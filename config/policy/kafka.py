"""Kafka requests against rules: API key, version and client select rules, and these together must cover all topics.

A rule without a topic permits any; a request that names no topics is permitted by any rule that its other fields
satisfy; one about all topics needs a rule without a topic, except those whose answers the proxy filters by topic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from config.policy.faults import Fault, told
from config.policy.kafka_apis import (
    ADD_PARTITIONS_TO_TXN,
    ALWAYS,
    API_NAMES,
    FIRST_OF_BROKERS,
    STREAMS_GROUP_HEARTBEAT,
    TXN_OFFSET_COMMIT,
    WITH_TOPICS,
)
from config.policy.resolved import KafkaRule, Origin
from parsers.facts import KafkaRequest

FILTERED = frozenset((3, 9))
"""Metadata and OffsetFetch of all topics: the client gets an answer, about the topics that the rules allow."""


class KafkaMatcher:
    """`rules`: each Kafka rule with the id of the origin that it came from."""

    __slots__ = ("_rules", "_topics")

    def __init__(self, rules: Sequence[tuple[KafkaRule, int]]) -> None:
        roles = {rule.role for rule, _ in rules}
        rules = [(_beside(rule, roles), origin) for rule, origin in rules]
        self._rules = tuple(rules)
        self._topics: dict[str, list[tuple[KafkaRule, int]]] = {}
        for rule, origin in rules:
            self._topics.setdefault(rule.topic, []).append((rule, origin))

    def judge(self, request: KafkaRequest) -> int | None:
        """The origin id of the first rule that takes part in permitting the request, or None."""
        if request.api_key in ALWAYS:
            return self._rules[0][1] if self._rules else None
        anything = self._first("", request)
        if anything is not None:
            return anything
        if request.api_key not in WITH_TOPICS or request.topics is None or _is_filtered(request):
            return next((origin for rule, origin in self._rules if _fits(rule, request)), None)
        covering = [self._first(topic, request) for topic in request.topics]
        return None if not covering or None in covering else covering[0]

    def _first(self, topic: str, request: KafkaRequest) -> int | None:
        return next((origin for rule, origin in self._topics.get(topic, ()) if _fits(rule, request)), None)

    def explain(self, request: KafkaRequest, origins: Mapping[int, Origin]) -> str:
        return told(self._rules, lambda rule: kafka_faults(rule, request), origins, "Kafka")


def _beside(rule: KafkaRule, roles: set[str]) -> KafkaRule:
    """What a role stands for where the other one is there, too.

    Then the rules of `consume` say whose offsets a producer's transaction may commit, and a client that may do both may
    be a Kafka Streams application.
    """
    if rule.api_keys is None or not rule.role or not roles >= {"produce", "consume"}:
        return rule
    keys = rule.api_keys - {TXN_OFFSET_COMMIT} if rule.role == "produce" else rule.api_keys
    return replace(rule, api_keys=keys | {STREAMS_GROUP_HEARTBEAT})


def _is_filtered(request: KafkaRequest) -> bool:
    return request.api_key in FILTERED and request.topics == ()


def _fits(rule: KafkaRule, request: KafkaRequest) -> bool:
    """All but the topic."""
    return (
        not (rule.role and is_of_brokers(request))
        and (rule.api_keys is None or request.api_key in rule.api_keys)
        and (rule.api_version is None or request.api_version == rule.api_version)
        and (not rule.client_id or request.client_id == rule.client_id)
    )


def is_of_brokers(request: KafkaRequest) -> bool:
    """From version 4 on brokers ask each other about the transactions of others: no role stands for that."""
    return request.api_key == ADD_PARTITIONS_TO_TXN and request.api_version >= FIRST_OF_BROKERS


def kafka_faults(rule: KafkaRule, request: KafkaRequest) -> list[Fault]:
    """What of the rule the request does not satisfy. Topics of other rules are not considered here."""
    found: list[Fault] = []
    if request.api_key in ALWAYS:
        return found
    if rule.api_keys is not None and request.api_key not in rule.api_keys:
        wanted = f"role {rule.role}" if rule.role else "API key " + ", ".join(map(api_name, sorted(rule.api_keys)))
        found.append(Fault("kafka.apiKey", f"{api_name(request.api_key)} is not of {wanted}"))
    elif rule.role and is_of_brokers(request):
        found.append(
            Fault("kafka.role", f"{api_name(request.api_key)} {request.api_version} is for brokers, no role has it")
        )
    if rule.api_version is not None and request.api_version != rule.api_version:
        found.append(Fault("kafka.apiVersion", f"version {request.api_version} is not {rule.api_version}"))
    if rule.client_id and request.client_id != rule.client_id:
        found.append(Fault("kafka.clientID", f'client "{request.client_id}" is not "{rule.client_id}"'))
    if rule.topic and request.api_key in WITH_TOPICS and request.topics is not None and not _is_filtered(request):
        missing = [topic for topic in request.topics if topic != rule.topic]
        if missing or not request.topics:
            topics = ", ".join(f'"{topic}"' for topic in missing) or "all topics"
            found.append(Fault("kafka.topic", f'topic {topics} is not "{rule.topic}"'))
    return found


def api_name(key: int) -> str:
    return API_NAMES[key] if 0 <= key < len(API_NAMES) else f"request {key}"
