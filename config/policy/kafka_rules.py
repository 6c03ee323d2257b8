"""`rules.kafka` → `KafkaRule`s."""

from __future__ import annotations

import re

from config import codes
from config.findings import ValuePath
from config.policy.kafka_apis import API_KEYS, ROLES
from config.policy.model import KafkaFields
from config.policy.resolved import KafkaRule
from config.policy.scope import Scope

MAX_TOPIC = 255
MAX_VERSION = 32767
_TOPIC = re.compile(r"[a-zA-Z0-9._-]+\Z")
_VERSION = re.compile(r"[0-9]{1,5}\Z")


def read_kafka_rules(items: list[KafkaFields], scope: Scope, path: ValuePath) -> tuple[KafkaRule, ...]:
    return tuple(dict.fromkeys(_rule(item, scope, (*path, index)) for index, item in enumerate(items)))


def _rule(item: KafkaFields, scope: Scope, path: ValuePath) -> KafkaRule:
    role, key = (item.role or "").lower(), (item.api_key or "").lower()
    if role and key:
        scope.add(codes.KAFKA_BAD, path, f'cannot set both Role "{item.role}" and APIKey "{item.api_key}" together')
    elif role and role not in ROLES:
        scope.add(codes.KAFKA_BAD, (*path, "role"), f'invalid Kafka Role "{item.role}"', hint="produce or consume")
    elif key and key not in API_KEYS:
        scope.add(codes.KAFKA_BAD, (*path, "apiKey"), f'invalid Kafka APIKey "{item.api_key}"', hint="like produce")
    keys = ROLES.get(role) if role else frozenset((API_KEYS[key],)) if key in API_KEYS else None
    return KafkaRule(keys, _version(item, scope, path), item.client_id or "", _topic(item, scope, path), role)


def _version(item: KafkaFields, scope: Scope, path: ValuePath) -> int | None:
    text = item.api_version
    if not text:
        return None
    if not _VERSION.match(text) or int(text) > MAX_VERSION:
        scope.add(codes.KAFKA_BAD, (*path, "apiVersion"), f'invalid Kafka APIVersion "{text[:80]}"')
        return None
    return int(text)


def _topic(item: KafkaFields, scope: Scope, path: ValuePath) -> str:
    topic = item.topic or ""
    if len(topic) > MAX_TOPIC:
        scope.add(codes.KAFKA_BAD, (*path, "topic"), f"a topic has at most {MAX_TOPIC} characters")
    elif topic and not _TOPIC.match(topic):
        message = f'invalid Kafka Topic "{topic}": letters, digits, ".", "_" and "-", no wildcards'
        scope.add(codes.KAFKA_BAD, (*path, "topic"), message)
    return topic
