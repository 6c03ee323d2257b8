"""What becomes of requests and answers on one connection."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from config.policy.resolved import KafkaRule
from parsers.filters import End, Way
from parsers.kafka.requests import TELEMETRY
from parsers.kafka.topics import SHARE_STATE
from parsers.limits import KafkaLimits
from tests.parsers.kafka.driving import (
    SERVER,
    Judge,
    Wire,
    consume,
    decoded,
    frame,
    number_of,
    produce,
    request,
    response,
)

ORDERS = uuid.UUID(int=7)
SECRET = uuid.UUID(int=9)
NOWHERE = uuid.UUID(int=11)


def produced(*topics: str, number: int = 1, version: int = 9, acks: int = -1, records: bytes = b"r" * 100) -> bytes:
    data = [{"name": topic, "partition_data": [{"index": 0, "records": records}]} for topic in topics]
    return request(0, version, number, acks=acks, timeout_ms=1000, topic_data=data)


def produced_by_id(*topics: uuid.UUID, number: int = 1, records: bytes = b"r" * 100) -> bytes:
    data = [{"topic_id": topic, "partition_data": [{"index": 0, "records": records}]} for topic in topics]
    return request(0, 13, number, acks=-1, timeout_ms=1000, topic_data=data)


def fetched(*topics: str, number: int = 1, version: int = 11, session: int = 0, epoch: int = 0) -> bytes:
    data = [{"topic": topic, "partitions": [{"partition": 0, "fetch_offset": 3}]} for topic in topics]
    return request(1, version, number, max_wait_ms=300, session_id=session, session_epoch=epoch, topics=data)


def fetched_by_id(*topics: uuid.UUID, number: int = 1) -> bytes:
    data = [{"topic_id": topic, "partitions": [{"partition": 0, "fetch_offset": 3}]} for topic in topics]
    return request(1, 17, number, max_wait_ms=300, session_epoch=-1, topics=data)


def heartbeat(number: int = 1) -> bytes:
    return request(12, 4, number, group_id="g", generation_id=1, member_id="m")


def heartbeat_answer(number: int = 1) -> bytes:
    return response(12, 4, number, error_code=0)


def metadata_answer(number: int, *topics: tuple[str | None, uuid.UUID, int], version: int = 12) -> bytes:
    told: list[dict[str, object]] = [
        {"error_code": error, "name": name, "topic_id": topic_id, "is_internal": False, "partitions": []}
        for name, topic_id, error in topics
    ]
    brokers = [{"node_id": 1, "host": "b", "port": 9092, "rack": None}]
    return response(3, version, number, brokers=brokers, cluster_id="c", controller_id=1, topics=told)


def error_of(answer: bytes, version: int = 9) -> int:
    return int(decoded(0, version, answer).responses[0].partition_responses[0].error_code)


# -- permitted and refused -------------------------------------------------------------------------------------------


def test_what_is_permitted_passes_as_it_came() -> None:
    wire = Wire(produce("orders"))
    asked, answered = produced("orders"), response(0, 9, 1, responses=[], throttle_time_ms=0)
    wire.client(asked)
    assert wire.sent() == [asked]
    wire.server(answered)
    assert wire.got() == [answered]
    (told,) = wire.told()
    assert (told.request.topics, told.ruling.permit, told.correlation_id, told.answered > 0) == (
        ("orders",),
        True,
        1,
        True,
    )
    assert wire.filter.is_idle


def test_what_is_refused_is_answered_and_the_connection_goes_on() -> None:
    wire = Wire(produce("orders"))
    wire.client(produced("secret", number=5))
    (answer,) = wire.got()
    assert (wire.sent(), number_of(answer), error_of(answer)) == ([], 5, 29)
    (told,) = wire.told()
    assert (told.request.topics, told.ruling.permit, told.error) == (("secret",), False, 29)
    wire.client(produced("orders", number=6))
    assert len(wire.sent()) == 1
    assert wire.filter.end is None


def test_one_forbidden_topic_refuses_the_whole_request() -> None:
    wire = Wire(produce("orders"))
    wire.client(produced("orders", "secret"))
    (answer,) = wire.got()
    codes = [topic.partition_responses[0].error_code for topic in decoded(0, 9, answer).responses]
    assert (wire.sent(), codes) == ([], [29, 29])


def test_topics_may_be_covered_by_several_rules() -> None:
    wire = Wire(produce("orders"), produce("stock"))
    wire.client(produced("orders", "stock"))
    assert len(wire.sent()) == 1


def test_refusals_wait_for_earlier_answers() -> None:
    wire = Wire(produce("orders"), consume("orders"))
    wire.client(heartbeat(1), produced("secret", number=2), heartbeat(3), produced("secret", number=4))
    assert (len(wire.sent()), wire.got()) == (2, [])
    wire.server(heartbeat_answer(1))
    assert [number_of(frame) for frame in wire.got()] == [1, 2]
    wire.server(heartbeat_answer(3))
    assert [number_of(frame) for frame in wire.got()] == [3, 4]


@pytest.mark.parametrize("step", [1, 3, 7])
def test_order_is_kept_whatever_the_pieces(step: int) -> None:
    wire = Wire(produce("orders"), consume("orders"))
    wire.client(heartbeat(1), produced("secret", number=2), heartbeat(3), fetched("orders", number=4), step=step)
    assert len(wire.sent()) == 3
    fetch_answer = response(1, 11, 4, error_code=0, session_id=0, responses=[])
    wire.server(heartbeat_answer(1), heartbeat_answer(3), fetch_answer, step=step)
    assert [number_of(frame) for frame in wire.got()] == [1, 2, 3, 4]


def test_a_role_that_does_not_have_a_request_refuses_it() -> None:
    wire = Wire(produce("orders"))
    wire.client(fetched("orders"), request(11, 5, 2, group_id="g", session_timeout_ms=1, protocols=[]))
    wire.pass_time(500)
    fetch, join = wire.got()
    assert decoded(1, 11, fetch).responses[0].partitions[0].error_code == 29
    assert decoded(11, 5, join).error_code == 30
    assert [told.error for told in wire.told()] == [29, 30]


def test_nobody_answers_acks_0() -> None:
    wire = Wire(produce("orders"), consume("orders"))
    wire.client(produced("secret", number=1, acks=0), produced("orders", number=2, acks=0), heartbeat(3))
    assert [number_of_request(frame) for frame in wire.sent()] == [2, 3]
    wire.server(heartbeat_answer(3))
    assert [number_of(frame) for frame in wire.got()] == [3]
    assert [told.ruling.permit for told in wire.told()] == [False, True, True]


def number_of_request(raw: bytes) -> int:
    return int.from_bytes(raw[8:12], "big")


# -- in pieces -------------------------------------------------------------------------------------------------------


def test_a_large_record_flows_through_before_it_is_whole() -> None:
    wire = Wire(produce("orders"))
    asked = produced("orders", records=b"r" * 3_000_000)
    wire.client(asked[:2000])
    assert bytes(wire.to_server) == asked[:2000]
    wire.client(asked[2000:1_000_000])
    wire.client(asked[1_000_000:] + heartbeat(2)[:5])
    assert bytes(wire.to_server) == asked
    assert wire.shared.held_bytes == 5


@pytest.mark.parametrize("step", [1, 17, 65536])
def test_a_large_record_that_is_refused_is_answered_when_it_has_come(step: int) -> None:
    wire = Wire(produce("orders"))
    asked = produced("secret", records=b"r" * (300_000 if step > 1 else 500))
    wire.client(asked[:-1], step=step)
    assert (wire.sent(), wire.got()) == ([], [])
    wire.client(asked[-1:] + produced("orders", number=2))
    assert (error_of(wire.got()[0]), len(wire.sent())) == (29, 1)


def test_several_topics_are_held_until_the_last_is_known() -> None:
    wire = Wire(produce("orders"), produce("stock"))
    asked = produced("orders", "stock", records=b"r" * 100_000)
    wire.client(asked[:150_000])
    assert wire.sent() == []
    wire.client(asked[150_000:])
    assert wire.sent() == [asked]
    assert wire.shared.held_bytes == 0


def test_several_topics_that_are_too_much_to_be_held_are_refused() -> None:
    wire = Wire(produce(), limits=KafkaLimits(buffered_bytes=100_000, streamed_bytes=50_000))
    asked = produced("orders", "stock", records=b"r" * 100_000)
    wire.client(asked, step=10_000)
    (answer,) = wire.got()
    assert (wire.sent(), error_of(answer)) == ([], 10)
    wire.client(heartbeat(2))
    assert wire.filter.end is None


def test_records_and_answers_go_by_but_for_their_last_byte() -> None:
    wire = Wire(produce("orders"), consume("orders"), limits=KafkaLimits(streamed_bytes=50_000))
    asked = produced("orders", records=b"r" * 100_000) + heartbeat(2) + produced("secret", number=3)
    wire.client(asked[:60_000])
    left = wire.filter.unread(Way.FROM_CLIENT)
    assert 30_000 < left < 100_000 - 50_000
    wire.client_past(asked[60_000:])
    assert b"".join(wire.sent()) == asked[: -len(produced("secret", number=3))]
    assert wire.filter.unread(Way.FROM_CLIENT) == 0
    answers = response(0, 9, 1, responses=[]) + heartbeat_answer(2)
    wire.server(answers[:20])
    wire.server_past(answers[20:])
    assert [number_of(frame) for frame in wire.got()] == [1, 2, 3]
    assert (wire.filter.unread(Way.FROM_SERVER), wire.filter.is_idle) == (0, True)


def test_nothing_goes_by_of_records_that_are_refused() -> None:
    wire = Wire(produce("orders"), limits=KafkaLimits(streamed_bytes=50_000))
    wire.client(produced("secret", records=b"r" * 100_000)[:60_000])
    assert wire.filter.unread(Way.FROM_CLIENT) == 0


def test_nothing_goes_by_of_an_answer_that_is_filtered() -> None:
    wire = Wire(consume("orders"))
    wire.client(metadata("orders"))
    wire.server(metadata_answer(1, ("orders", ORDERS, 0))[:20])
    assert wire.filter.unread(Way.FROM_SERVER) == 0


def test_many_frames_in_random_pieces() -> None:
    dice = random.Random(1)
    kinds: list[Callable[[int], bytes]] = [
        lambda n: produced("orders", number=n),
        lambda n: produced("secret", number=n),
        heartbeat,
    ]
    sequence = [dice.choice(kinds)(number) for number in range(1, 300)]
    whole, split = Wire(produce("orders"), consume()), Wire(produce("orders"), consume())
    whole.client(b"".join(sequence))
    data = b"".join(sequence)
    while data:
        size = dice.choice((1, 10, 100, 1000))
        split.client(data[:size])
        data = data[size:]
    assert whole.to_server == split.to_server


# -- fetch -----------------------------------------------------------------------------------------------------------


def test_a_fetch_opens_no_session() -> None:
    wire = Wire(consume("orders"))
    wire.client(fetched("orders", epoch=0))
    (sent,) = wire.sent()
    assert sent == fetched("orders", epoch=-1)


def test_a_fetch_of_a_session_is_told_that_there_is_none() -> None:
    wire = Wire(consume("orders"))
    wire.client(fetched(session=77, epoch=4))
    (answer,) = wire.got()
    assert (wire.sent(), decoded(1, 11, answer).error_code) == ([], 70)


def test_ending_a_session_asks_for_everything() -> None:
    wire = Wire(consume("orders"))
    wire.client(fetched("orders", session=77, epoch=-1))
    assert wire.sent() == [fetched("orders", session=0, epoch=-1)]


def test_a_refused_fetch_waits_as_long_as_one_without_records() -> None:
    wire = Wire(consume("orders"))
    wire.client(fetched("secret", number=1), heartbeat(2))
    wire.server(heartbeat_answer(2))
    assert wire.got() == []
    assert wire.server_is_held
    wire.pass_time(299)
    assert wire.got() == []
    wire.pass_time(1)
    assert [number_of(frame) for frame in wire.got()] == [1, 2]
    assert not wire.server_is_held


# -- what brokers ask of each other ----------------------------------------------------------------------------------


def share_state(key: int, number: int = 1) -> bytes:
    return request(key, 0, number, group_id="g", topics=[{"topic_id": NOWHERE, "partitions": [{"partition": 0}]}])


@pytest.mark.parametrize("key", sorted(SHARE_STATE))
def test_the_state_of_share_groups_is_for_brokers(key: int) -> None:
    """A rule with a topic does not reach to it; one without does, and nobody is asked what the topic is called."""
    wire = Wire(consume("orders"), KafkaRule(frozenset((key,)), topic="orders"), KafkaRule(topic="orders"))
    wire.client(share_state(key))
    assert wire.sent() == []
    (answer,) = wire.got()
    (topic,) = decoded(key, 0, answer).results
    assert (topic.topic_id, [part.error_code for part in topic.partitions]) == (NOWHERE, [31])
    among_brokers = Wire(KafkaRule())
    among_brokers.client(share_state(key))
    assert among_brokers.sent() == [share_state(key)]


# -- what a client may see -------------------------------------------------------------------------------------------


def names(answer: bytes, version: int = 12) -> dict[str | None, int]:
    return {topic.name: topic.error_code for topic in decoded(3, version, answer).topics}


def metadata(*topics: str, number: int = 1, version: int = 12) -> bytes:
    named = [{"name": topic} for topic in topics]
    return request(3, version, number, topics=named, allow_auto_topic_creation=True)


def test_metadata_of_all_topics_is_filtered() -> None:
    wire = Wire(consume("orders"))
    wire.client(request(3, 12, topics=None))
    wire.server(metadata_answer(1, ("orders", ORDERS, 0), ("secret", SECRET, 0)))
    (answer,) = wire.got()
    assert names(answer) == {"orders": 0}
    assert decoded(3, 12, answer).brokers[0].host == "b"


def test_no_server_is_asked_about_forbidden_topics() -> None:
    wire = Wire(consume("orders"))
    wire.client(metadata("orders", "secret"))
    assert wire.sent() == [metadata("orders")]
    wire.server(metadata_answer(1, ("orders", ORDERS, 0)))
    assert names(wire.got()[0]) == {"orders": 0, "secret": 29}
    assert [(told.request.topics, told.ruling.permit) for told in wire.told()] == [
        (("orders",), True),
        (("secret",), False),
    ]


def test_brokers_are_told_even_if_no_topic_may_be_seen() -> None:
    wire = Wire(consume("orders"))
    wire.client(metadata("secret"))
    assert wire.sent() == [metadata()]
    wire.server(metadata_answer(1))
    (answer,) = wire.got()
    assert (names(answer), len(decoded(3, 12, answer).brokers)) == ({"secret": 29}, 1)


def test_metadata_without_filter_passes_as_it_came() -> None:
    wire = Wire(consume("orders"))
    wire.client(metadata("orders", version=5))
    answer = metadata_answer(1, ("orders", ORDERS, 0), version=5)
    wire.server(answer)
    assert wire.got() == [answer]


def test_where_there_is_no_rule_for_metadata_nothing_is_asked() -> None:
    wire = Wire(type(consume())(frozenset((0,)), topic="orders"))
    wire.client(metadata("orders"))
    assert (wire.sent(), names(wire.got()[0])) == ([], {"orders": 29})


def test_offsets_of_all_topics_are_filtered() -> None:
    wire = Wire(consume("orders"))
    wire.client(request(9, 7, group_id="g", topics=None, require_stable=False))
    part = [{"partition_index": 0, "committed_offset": 3, "metadata": "", "error_code": 0}]
    topics = [{"name": name, "partitions": part} for name in ("orders", "secret")]
    wire.server(response(9, 7, 1, topics=topics, error_code=0))
    (answer,) = wire.got()
    assert [topic.name for topic in decoded(9, 7, answer).topics] == ["orders"]


# -- topics by id ----------------------------------------------------------------------------------------------------


def test_ids_are_learned_from_metadata() -> None:
    wire = Wire(consume("orders"))
    wire.client(metadata("orders"))
    wire.server(metadata_answer(1, ("orders", ORDERS, 0)))
    asked = fetched_by_id(ORDERS, number=2)
    wire.sent()
    wire.client(asked)
    assert wire.sent() == [asked]


@pytest.mark.parametrize("step", [0, 11])
def test_an_unknown_id_is_asked_for_first(step: int) -> None:
    wire = Wire(consume("orders"))
    asked = fetched_by_id(ORDERS, number=2)
    wire.client(heartbeat(1), asked, heartbeat(3), step=step)
    first, question = wire.sent()
    assert first == heartbeat(1)
    assert question[4:8] == b"\0\3\0\x0c"
    assert wire.client_is_held
    wire.server(heartbeat_answer(1), metadata_answer(number_of_request(question), ("orders", ORDERS, 0)))
    assert wire.sent() == [asked, heartbeat(3)]
    assert [number_of(frame) for frame in wire.got()] == [1]
    assert not wire.client_is_held


def test_an_id_of_a_forbidden_topic_is_refused() -> None:
    wire = Wire(consume("orders"))
    wire.client(fetched_by_id(SECRET, number=2))
    (question,) = wire.sent()
    wire.server(metadata_answer(number_of_request(question), ("secret", SECRET, 0)))
    wire.pass_time(300)
    (answer,) = wire.got()
    partition = decoded(1, 17, answer).responses[0].partitions[0]
    assert (wire.sent(), partition.error_code) == ([], 29)
    assert wire.told()[-1].request.topics == ("secret",)


def test_an_id_that_the_server_does_not_know_goes_nowhere() -> None:
    wire = Wire(consume())
    wire.client(fetched_by_id(NOWHERE, number=2))
    (question,) = wire.sent()
    wire.server(metadata_answer(number_of_request(question), (None, NOWHERE, 100)))
    wire.pass_time(300)
    (answer,) = wire.got()
    assert (wire.sent(), decoded(1, 17, answer).responses[0].partitions[0].error_code) == ([], 100)


def test_a_large_record_waits_for_its_topic() -> None:
    wire = Wire(produce("orders"))
    asked = produced_by_id(ORDERS, records=b"r" * 500_000)
    wire.client(asked[:1000])
    (question,) = wire.sent()
    wire.client(asked[1000:200_000])
    wire.server(metadata_answer(number_of_request(question), ("orders", ORDERS, 0)))
    assert bytes(wire.to_server) == asked[:200_000]
    wire.client(asked[200_000:])
    assert wire.sent() == [asked]


def test_ids_are_known_of_the_server_that_told_them_only() -> None:
    wire = Wire(consume("orders"))
    wire.shared.topic_ids.of(("10.0.0.2", 9092)).learn(ORDERS.bytes, "orders")
    wire.client(fetched_by_id(ORDERS))
    (question,) = wire.sent()
    assert question[4:6] == b"\0\3"


def test_capped_versions_are_neither_offered_nor_taken() -> None:
    wire = Wire(consume("orders"), cap=True)
    wire.client(request(18, 3, client_software_name="x", client_software_version="1"))
    keys = [{"api_key": key, "min_version": 0, "max_version": 20} for key in (0, 1, 3, 8, 9, 20, 78)]
    wire.server(response(18, 3, 1, error_code=0, api_keys=keys, throttle_time_ms=0))
    offered = {api.api_key: api.max_version for api in decoded(18, 3, wire.got()[0]).api_keys}
    assert offered == {0: 12, 1: 12, 3: 13, 8: 9, 9: 9, 20: 5}
    wire.client(fetched_by_id(ORDERS, number=2))
    assert wire.filter.end is End.ABORT


# -- share groups ----------------------------------------------------------------------------------------------------


def share_fetched(epoch: int, *topics: uuid.UUID, number: int = 1) -> bytes:
    data = [{"topic_id": topic, "partitions": [{"partition_index": 0}]} for topic in topics]
    return request(78, 1, number, group_id="g", member_id="m", share_session_epoch=epoch, max_wait_ms=100, topics=data)


def test_a_share_session_is_about_all_its_topics() -> None:
    wire = Wire(consume("orders"))
    wire.shared.topic_ids.of(("10.0.0.1", 9092)).learn(ORDERS.bytes, "orders")
    wire.shared.topic_ids.of(("10.0.0.1", 9092)).learn(SECRET.bytes, "secret")
    wire.client(share_fetched(0, ORDERS), share_fetched(1, number=2))
    assert len(wire.sent()) == 2
    wire.client(share_fetched(2, SECRET, number=3), share_fetched(3, number=4))
    assert wire.sent() == []


def test_a_share_session_from_elsewhere_has_to_begin_anew() -> None:
    wire = Wire(consume("orders"))
    wire.client(share_fetched(5))
    (answer,) = wire.got()
    assert (wire.sent(), decoded(78, 1, answer).error_code) == ([], 122)


# -- negotiation -----------------------------------------------------------------------------------------------------


def offered(wire: Wire, *keys: tuple[int, int, int]) -> dict[int, tuple[int, int]]:
    wire.client(request(18, 3, client_software_name="x", client_software_version="1"))
    told = [{"api_key": key, "min_version": low, "max_version": high} for key, low, high in keys]
    wire.server(response(18, 3, 1, error_code=0, api_keys=told, throttle_time_ms=0))
    found = decoded(18, 3, wire.got()[-1]).api_keys
    return {api.api_key: (api.min_version, api.max_version) for api in found}


def test_only_what_is_understood_is_offered() -> None:
    found = offered(Wire(consume()), (0, 0, 99), (1, 4, 18), (17, 0, 1), (4, 0, 9), (500, 0, 1), (71, 0, 0), (72, 0, 0))
    assert found == {0: (0, 13), 1: (4, 18), 17: (1, 1)}


def test_telemetry_is_offered_to_whom_a_rule_permits_it() -> None:
    anything = type(consume())()
    assert set(offered(Wire(anything), (71, 0, 0), (72, 0, 0))) >= TELEMETRY


def test_a_version_of_the_future_is_told_what_there_is() -> None:
    wire = Wire(consume())
    wire.client(frame(18, 9, 3, "me", b"whatever"))
    (answer,) = wire.got()
    assert answer[8:] == bytes.fromhex("0023 00000001 0012 0000 0004")
    assert (wire.sent(), wire.filter.end) == ([], None)


# -- bounds, and bytes that are not Kafka ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\0\1", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", bytes(4)])
@pytest.mark.parametrize("step", [0, 1])
def test_what_is_not_kafka_ends(data: bytes, step: int) -> None:
    wire = Wire(consume())
    wire.client(data, step=step)
    assert (wire.filter.end, bytes(wire.to_server), bool(wire.filter.failure)) == (End.ABORT, b"", True)


@pytest.mark.parametrize(
    "wrong",
    [
        frame(12, 4, 1, "me", b"")[:4] + b"\x7f\x00" + frame(12, 4, 1, "me", b"")[6:],
        frame(12, 40, 1, "me", b""),
        frame(17, 0, 1, "me", b"\0\5PLAIN"),
        heartbeat()[:3] + bytes((heartbeat()[3] + 1,)) + heartbeat()[4:] + b"\0",
        (2_000_000).to_bytes(4, "big") + b"\0\x0c\0\4" + bytes(50),
        (200_000_000).to_bytes(4, "big") + b"\0\0\0\x09" + bytes(50),
    ],
)
def test_what_is_not_understood_ends(wrong: bytes) -> None:
    wire = Wire(type(consume())())
    wire.client(wrong)
    assert (wire.filter.end, bytes(wire.to_server)) == (End.ABORT, b"")


@pytest.mark.parametrize(
    "answers",
    [
        [heartbeat_answer(2)],
        [heartbeat_answer(1), heartbeat_answer(1)],
        [b"\0\0\0\1\0\0\0\1"],
        [b"\x7f\xff\xff\xff\0\0\0\1"],
    ],
)
def test_a_server_that_answers_something_else_is_left(answers: list[bytes]) -> None:
    wire = Wire(consume())
    wire.client(heartbeat(1))
    wire.server(*answers)
    assert wire.filter.end is End.ABORT


def test_a_client_that_does_not_wait_is_not_read() -> None:
    wire = Wire(consume(), limits=KafkaLimits(pending_requests=4))
    wire.client(*(heartbeat(number) for number in range(1, 11)))
    assert (len(wire.sent()), wire.client_is_held) == (4, True)
    for number in range(1, 11):
        wire.server(heartbeat_answer(number))
    assert (len(wire.sent()), len(wire.got()), wire.client_is_held) == (6, 10, False)


def test_refusals_of_a_client_that_does_not_wait() -> None:
    wire = Wire(produce("orders"), limits=KafkaLimits(pending_requests=4))
    wire.client(*(produced("secret", number=number) for number in range(1, 101)))
    assert [number_of(frame) for frame in wire.got()] == list(range(1, 101))
    assert not wire.client_is_held


def test_what_all_connections_hold_together_is_bounded() -> None:
    limits = KafkaLimits(held_bytes=3 << 20)
    wire = Wire(produce(), limits=limits)
    wire.shared.held_bytes = 2 << 20
    wire.client(produced("a", "b", records=b"r" * (1 << 20)), step=65536)
    assert (wire.filter.end, wire.filter.limit) == (End.ABORT, "held_bytes")
    wire.filter.finish(wire.now)
    assert wire.shared.held_bytes == 2 << 20


def test_a_slow_request_is_noticed_only_when_it_stands_still() -> None:
    wire = Wire(produce())
    asked = produced("a", "b", records=b"r" * 200_000)
    seen = set()
    for at in range(0, 300_000, 70_000):
        wire.client(asked[at : at + 70_000])
        seen.add(wire.filter.unfinished_head)
    assert len(seen) == 5
    assert 0 not in seen


def test_a_drained_connection_takes_nothing_new() -> None:
    wire = Wire(consume())
    wire.client(heartbeat(1))
    assert not wire.filter.drain(wire.now)
    wire.client(heartbeat(2))
    wire.server(heartbeat_answer(1))
    assert (len(wire.sent()), wire.filter.drain(wire.now)) == (1, True)


def test_what_is_not_answered_is_told_at_the_end() -> None:
    wire = Wire(consume())
    wire.client(heartbeat(1))
    wire.filter.finish(wire.now)
    (told,) = wire.told()
    assert (told.answered, told.ruling.permit) == (0, True)


def test_rules_may_change_between_requests() -> None:
    wire = Wire(produce("orders"))
    wire.client(produced("orders"))
    wire.filter.judge = Judge([produce("stock")])
    wire.client(produced("orders", number=2))
    wire.server(response(0, 9, 1, responses=[], throttle_time_ms=0))
    assert [number_of(frame) for frame in wire.got()] == [1, 2]


def test_a_share_session_that_is_refused_in_the_middle_has_to_begin_anew() -> None:
    wire = Wire(consume("orders"))
    ids = wire.shared.topic_ids.of(SERVER)
    ids.learn(ORDERS.bytes, "orders")
    wire.client(share_fetched(0, ORDERS))
    wire.server(response(78, 1, 1))
    wire.filter.judge = Judge([consume("stock")])
    wire.client(share_fetched(1, number=2))
    wire.pass_time(100)
    assert decoded(78, 1, wire.got()[-1]).error_code == 122
    wire.client(share_fetched(0, ORDERS, number=3))
    wire.pass_time(100)
    assert decoded(78, 1, wire.got()[-1]).responses[0].partitions[0].error_code == 29


def test_a_share_fetch_of_no_topic_at_all_ends() -> None:
    wire = Wire(consume("orders"))
    wire.client(share_fetched(0, uuid.UUID(int=0)))
    assert wire.filter.end is End.ABORT


def test_a_refusal_of_very_many_topics_is_no_answer() -> None:
    wire = Wire(produce("orders"))
    topics = [{"name": f"t{number}", "partitions": []} for number in range(11_000)]
    wire.client(request(8, 5, group_id="g", topics=topics))
    assert (wire.filter.end, wire.filter.limit) == (End.ABORT, "refused_entries")


@pytest.mark.parametrize("version", [4, 11, 12, 17])
def test_fetches_that_are_like_the_last_one_pass_with_other_offsets_only(version: int) -> None:
    wire = Wire(consume("orders"))
    wire.shared.topic_ids.of(SERVER).learn(ORDERS.bytes, "orders")
    wire.shared.topic_ids.of(SERVER).learn(SECRET.bytes, "secret")

    def fetch(name: str, number: int, offset: int, epoch: int = -1) -> bytes:
        topic_id = {"orders": ORDERS, "secret": SECRET}[name]
        topic = {"topic_id": topic_id} if version >= 13 else {"topic": name}
        parts = [{"partition": index, "fetch_offset": offset} for index in range(3)]
        fields: dict[str, Any] = {"session_epoch": epoch} if version >= 7 else {}
        return request(1, version, number, max_wait_ms=300, topics=[{**topic, "partitions": parts}], **fields)

    asked = [fetch("orders", number, offset=number * 1000) for number in range(1, 6)]
    wire.client(*asked)
    assert wire.sent() == asked
    assert [told.correlation_id for told in wire.filter._answers.queue] == [1, 2, 3, 4, 5]
    wire.client(fetch("secret", 6, 7), fetch("orders", 7, 8))
    assert wire.sent() == [fetch("orders", 7, 8)]
    if version >= 7:
        wire.client(fetch("orders", 8, 8, epoch=0), fetch("orders", 9, 9, epoch=0))
        assert wire.sent() == [fetch("orders", 8, 8), fetch("orders", 9, 9)]


def test_a_repeated_request_meets_new_rules() -> None:
    wire = Wire(produce("orders"))
    wire.client(produced("orders"), produced("orders", number=2))
    assert len(wire.sent()) == 2
    wire.filter.judge = Judge([produce("stock")])
    wire.client(produced("orders", number=3))
    assert wire.sent() == []


@pytest.mark.parametrize(("rules", "code"), [([produce("orders")], 30), ([consume("orders")], 29)])
def test_members_of_groups_are_told_about_the_group_or_the_topic(rules: list[KafkaRule], code: int) -> None:
    wire = Wire(*rules)
    wire.client(request(68, 0, group_id="g", member_id="m", subscribed_topic_names=["secret"]))
    assert decoded(68, 0, wire.got()[0]).error_code == code
