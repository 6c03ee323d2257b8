"""Kafka requests against rules; the ids are those of the reference's rows."""

from __future__ import annotations

import pytest

from config.policy.kafka import KafkaMatcher, kafka_faults
from config.policy.kafka_apis import API_KEYS, API_NAMES, CONSUME, PRODUCE
from config.policy.resolved import KafkaRule
from parsers.facts import KafkaRequest


def rule(*keys: int, version: int | None = None, client: str = "", topic: str = "") -> KafkaRule:
    return KafkaRule(frozenset(keys) if keys else None, version, client, topic)


ABC = KafkaRequest(0, 3, "ABC", ("EF", "GH"))
BOTH = KafkaRequest(0, topics=("foo", "bar"))
PRODUCER = KafkaRule(PRODUCE, topic="b", role="produce")
CONSUMER = KafkaRule(CONSUME, topic="a", role="consume")
FOO, BAR, BAZ = rule(topic="foo"), rule(topic="bar"), rule(topic="baz")


@pytest.mark.parametrize(
    ("request_", "rules", "permitted"),
    [
        pytest.param(BOTH, [], False, id="F01"),
        pytest.param(BOTH, [rule()], True, id="F02"),
        pytest.param(BOTH, [FOO], False, id="F03"),
        pytest.param(BOTH, [BAR, FOO], True, id="F04"),
        pytest.param(BOTH, [BAZ, FOO, BAR], True, id="F04 and more"),
        pytest.param(KafkaRequest(19, topics=("foo", "qux")), [FOO, BAR], False, id="F07"),
        pytest.param(ABC, [rule(topic="EF")], False, id="F08"),
        pytest.param(ABC, [rule(client="ABC", topic="EF"), rule(topic="GH")], True, id="F10"),
        pytest.param(ABC, [rule(client="ABC")], True, id="F11"),
        pytest.param(ABC, [rule(0, client="ABC")], True, id="F12"),
        pytest.param(ABC, [rule(1, client="ABC")], False, id="F12 other key"),
        pytest.param(ABC, [rule(version=3)], True, id="F13"),
        pytest.param(ABC, [rule(version=0)], False, id="F13 other version"),
        pytest.param(KafkaRequest(11), [FOO], True, id="a kind without topics"),
        pytest.param(KafkaRequest(11), [rule(1)], False, id="a kind that no rule names"),
        pytest.param(KafkaRequest(18), [rule(1, topic="x")], True, id="negotiation is part of every connection"),
        pytest.param(KafkaRequest(18), [], False, id="but not where nothing is allowed"),
        pytest.param(
            KafkaRequest(75, topics=()), [rule(75, topic="x")], False, id="all topics need a rule without one"
        ),
        pytest.param(KafkaRequest(9, topics=()), [rule(9, topic="x")], True, id="offsets of all topics are filtered"),
        pytest.param(KafkaRequest(28, topics=("a",)), [PRODUCER], False, id="offsets in a transaction, by a producer"),
        pytest.param(KafkaRequest(28, topics=("b",)), [PRODUCER], True, id="of the topic it produces to"),
        pytest.param(KafkaRequest(28, topics=("a",)), [PRODUCER, CONSUMER], True, id="of the topic it consumes"),
        pytest.param(KafkaRequest(28, topics=("b",)), [PRODUCER, CONSUMER], False, id="and of no other"),
        pytest.param(KafkaRequest(24, 3, topics=("b",)), [PRODUCER], True, id="partitions of one's own transaction"),
        pytest.param(KafkaRequest(24, 4, topics=("b",)), [PRODUCER], False, id="and of others': no role has that"),
        pytest.param(KafkaRequest(24, 4, topics=("b",)), [rule(24, topic="b")], True, id="but a rule may"),
        pytest.param(KafkaRequest(88, topics=("a",)), [CONSUMER], False, id="streams need both roles"),
        pytest.param(KafkaRequest(88, topics=("a", "b")), [PRODUCER, CONSUMER], True, id="streams with both roles"),
        pytest.param(KafkaRequest(3, topics=()), [rule(3, topic="x")], True, id="metadata of all topics is filtered"),
    ],
)
def test_requests(request_: KafkaRequest, rules: list[KafkaRule], permitted: bool) -> None:
    asked = KafkaMatcher([(item, number) for number, item in enumerate(rules, 1)])
    assert (asked.judge(request_) is not None) is permitted
    if not permitted:
        assert asked.explain(request_, {})


def test_there_are_93_apis() -> None:
    assert len(API_NAMES) == 93
    assert (API_KEYS["produce"], API_KEYS["offsets"], API_KEYS["deletesharegroupoffsets"]) == (0, 2, 92)


def test_roles_hold_what_cilium_gave_them() -> None:
    assert {0, 3, 18} <= PRODUCE
    assert {1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18} <= CONSUME


@pytest.mark.parametrize(
    ("item", "matchers"),
    [
        (rule(1), ["kafka.apiKey"]),
        (rule(version=1), ["kafka.apiVersion"]),
        (rule(client="x"), ["kafka.clientID"]),
        (rule(topic="x"), ["kafka.topic"]),
        (KafkaRule(CONSUME, topic="x", role="consume"), ["kafka.apiKey", "kafka.topic"]),
        (rule(), []),
    ],
)
def test_faults(item: KafkaRule, matchers: list[str]) -> None:
    assert [fault.matcher for fault in kafka_faults(item, ABC)] == matchers
