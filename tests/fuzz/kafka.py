"""Kafka: what a client sends, and what a server answers, through a filter that permits topics `a` and group `g`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from config.policy.resolved import KafkaRule
from parsers.filters import End
from parsers.kafka.filter import KafkaFilter
from parsers.kafka.judging import KafkaExchange
from parsers.kafka.requests import KafkaShared
from parsers.limits import KafkaLimits
from tests.fuzz.run import Run
from tests.fuzz.shaping import Shape, pieces, shape, shaped
from tests.parsers.kafka.driving import SERVER, Judge, consume, frame, number_of, produce, request, response
from tests.parsers.kafka.strict import ASSIGNED, METADATA, cut, understood

PERMITTED, FORBIDDEN, UNHEARD_OF = "a", "b", "hidden"
IDS = {PERMITTED: UUID(int=1), FORBIDDEN: UUID(int=2), UNHEARD_OF: UUID(int=3)}
DESCRIBE_QUORUM = 55
LIMITS = KafkaLimits()
TIGHT = KafkaLimits(streamed_bytes=64, pending_requests=2, waiting_answer_bytes=128, topic_ids=2, session_topics=2)
"""Bounds of sizes stay: they are looked at only in what does not come in one piece."""

RULES = (
    (produce(PERMITTED), consume(PERMITTED)),
    (KafkaRule(None, topic=PERMITTED),),
    (produce(PERMITTED),),
    (KafkaRule(None),),
)


class _KafkaRun(Run):
    """It is its filter's valve, too. Variants from 4 on: what the ids of topics mean has been learned before.

    `asks`: when the client had said all, the server had been asked for the name of an id, and had not answered.
    """

    filter: KafkaFilter

    def __init__(self, shape: Shape) -> None:
        self.shared = KafkaShared(TIGHT if shape.is_tight else LIMITS)
        if shape.variant & 4:
            for name in (PERMITTED, FORBIDDEN):
                self.shared.topic_ids.of(SERVER).learn(IDS[name].bytes, name)
        self.asks = False
        judge = Judge(RULES[shape.variant & 3])
        super().__init__(KafkaFilter(judge, self.shared, SERVER, None, self))

    def hold_client(self) -> None: ...

    def release_client(self) -> None: ...

    def hold_server(self) -> None: ...

    def release_server(self) -> None: ...

    def wake_at(self, when: int) -> None: ...

    def send_to_server(self, data: bytes) -> None:
        assert self.end is None
        self.to_server += data

    def finish(self, ending: int) -> None:
        self.asks = self.filter._resolving
        super().finish(ending)
        assert self.shared.held_bytes == 0, "what is held is let go"


# -- requests ----------------------------------------------------------------------------------------------------------


def kafka_request(data: bytes) -> None:
    """Requests of a client: however they arrive the same goes on, and kafka-python finds no forbidden topic in it."""
    shape, stream = shaped(data)
    whole, cut_up = _client(shape, [stream]), _client(shape, pieces(stream, shape.sizes))
    _same(whole, cut_up, whole.to_server, cut_up.to_server)
    if whole.end is not End.ABORT:
        assert _told(cut_up.shared.exchanges) == _told(whole.shared.exchanges)
    for run in (whole, cut_up):
        _check_what_the_server_sees(run, shape)
        _check_order(run, stream)


def _client(shape: Shape, data: Iterable[bytes]) -> _KafkaRun:
    run = _KafkaRun(shape)
    run.client(piece for piece in data if piece)
    run.finish(shape.ending)
    return run


def _same(whole: _KafkaRun, other: _KafkaRun, ours: bytes, theirs: bytes) -> None:
    """What is wrong first is not always seen first, and what came before it in the same piece does not go on.

    Of records that come in pieces the first has the id that the server is asked about, and nothing is read until it has
    answered; of those that come at once it is seen before whether they make sense.
    """
    if other.asks and not whole.asks:
        assert whole.end is End.ABORT
        assert theirs.startswith(ours)
        return
    assert other.end is whole.end
    assert bool(other.failure) == bool(whole.failure), (whole.failure, other.failure)
    if whole.end is End.ABORT:
        shorter, longer = sorted((ours, theirs), key=len)
        assert longer.startswith(shorter)
    else:
        assert ours == theirs


def _told(exchanges: Iterable[KafkaExchange]) -> list[tuple[int, int, object, bool, int]]:
    return [(it.request.api_key, it.correlation_id, it.request.topics, it.ruling.permit, it.error) for it in exchanges]


def _check_what_the_server_sees(run: _KafkaRun, shape: Shape) -> None:
    names = {topic.bytes: name for name, topic in IDS.items()} if shape.variant & 4 else {}
    for raw in cut(run.to_server).frames:
        seen = understood(raw)
        if shape.variant & 3 == 3 or seen.key == DESCRIBE_QUORUM:
            continue
        assert seen.names <= {PERMITTED}, seen
        if seen.key != METADATA and seen.key not in ASSIGNED:
            assert {names.get(topic) for topic in seen.ids} <= {PERMITTED}, seen


def _check_order(run: _KafkaRun, stream: bytes) -> None:
    left = iter([number_of_request(raw) for raw in cut(stream).frames])
    assert all(number_of(raw) in left for raw in cut(run.to_client).frames), "answers out of order"


def number_of_request(raw: bytes) -> int:
    return int.from_bytes(raw[8:12], "big")


# -- answers -----------------------------------------------------------------------------------------------------------


def asked() -> tuple[bytes, ...]:
    """What the client has asked for: each line is a variant."""
    produced = _produced(PERMITTED, 1)
    everything = request(METADATA, 12, 2, topics=None)
    some = request(METADATA, 9, 2, topics=[{"name": PERMITTED}, {"name": FORBIDDEN}])
    old = request(METADATA, 1, 1, topics=None)
    describe = request(75, 0, 2, topics=[{"name": PERMITTED}, {"name": FORBIDDEN}])
    offsets = [
        request(9, 7, 1, group_id="g", topics=None),
        request(9, 9, 2, groups=[{"group_id": "g", "topics": None}]),
    ]
    by_id = request(1, 17, 2, session_epoch=-1, topics=[{"topic_id": IDS[PERMITTED], "partitions": [{"partition": 0}]}])
    return (
        produced + everything + _heartbeat(3),
        some + old,
        _produced(FORBIDDEN, 1) + describe,
        b"".join(offsets) + _heartbeat(3),
        request(18, 4, 1) + everything,
        request(18, 0, 1) + describe + _produced(FORBIDDEN, 3),
        by_id + _heartbeat(3),
        everything + _heartbeat(3) * 3,
    )


def _produced(topic: str, number: int) -> bytes:
    data = [{"name": topic, "partition_data": [{"index": 0, "records": b"records"}]}]
    return request(0, 9, number, acks=1, topic_data=data)


def _heartbeat(number: int, version: int = 4) -> bytes:
    return request(12, version, number, group_id="g", generation_id=1, member_id="m")


ASKED = asked()


def kafka_answer(data: bytes) -> None:
    """What a server says to requests that wait for it."""
    shape, stream = shaped(data)
    whole, cut_up = _server(shape, [stream]), _server(shape, pieces(stream, shape.sizes))
    _same(whole, cut_up, whole.to_client, cut_up.to_client)
    for run in (whole, cut_up):
        _check_order(run, ASKED[shape.variant])
    if whole.end is not End.ABORT:
        assert _told(cut_up.shared.exchanges) == _told(whole.shared.exchanges)


def _server(shape: Shape, data: Iterable[bytes]) -> _KafkaRun:
    run = _KafkaRun(shape._replace(variant=0, is_tight=False))
    run.client([ASKED[shape.variant]])
    assert run.end is None
    run.server(piece for piece in data if piece)
    run.finish(shape.ending & 4 | 1)
    return run


# -- seeds -------------------------------------------------------------------------------------------------------------


def request_seeds() -> Iterator[bytes]:
    for number, stream in enumerate(_streams()):
        for variant in (number & 3, 4 | number & 3):
            yield shape(b"\1\7\0", variant=variant) + stream
        yield shape(b"\0\0\0", is_tight=True, variant=number & 7, ending=number & 7) + stream


def _streams() -> Iterator[bytes]:
    both = [{"name": name} for name in (PERMITTED, FORBIDDEN)]
    by_id = [{"topic_id": IDS[name]} for name in (PERMITTED, FORBIDDEN)]
    yield from ASKED
    for version in (3, 8, 9):
        for names in ([PERMITTED], [FORBIDDEN], [PERMITTED, FORBIDDEN]):
            data = [{"name": name, "partition_data": [{"index": 0, "records": b"r" * 40}]} for name in names]
            yield request(0, version, 1, acks=len(names) - 1, topic_data=data) + _heartbeat(2)
    yield request(
        0, 13, 1, acks=1, topic_data=[{**it, "partition_data": [{"index": 0, "records": b"r"}]} for it in by_id]
    )
    for version in (4, 7, 11, 12):
        topics = [{"topic": name, "partitions": [{"partition": 0}]} for name in (PERMITTED, FORBIDDEN)]
        yield request(1, version, 1, topics=topics[:1]) + request(1, version, 2, max_wait_ms=0, topics=topics)
    for version in (13, 17, 18):
        yield request(1, version, 1, session_epoch=-1, topics=[{**by_id[0], "partitions": [{"partition": 0}]}])
    for version in (0, 1, 4, 8, 9, 12, 13):
        yield request(METADATA, version, 1, topics=both) + request(METADATA, version, 2, topics=both[1:])
    yield request(METADATA, 12, 1, topics=[{**by_id[1], "name": None}])
    parts = [{"partition_index": 0}]
    for key, version in ((2, 1), (2, 10), (8, 2), (8, 9), (28, 3), (21, 2)):
        yield request(key, version, 1, topics=[{**it, "partitions": parts} for it in both])
        yield request(key, version, 1, topics=[{**both[0], "partitions": parts}])
    yield request(8, 10, 1, topics=[{**it, "partitions": parts} for it in by_id])
    yield request(24, 3, 1, v3_and_below_topics=[{**it, "partitions": [0]} for it in both])
    yield request(19, 7, 1, topics=both) + request(20, 6, 2, topics=both) + request(20, 1, 3, topic_names=[PERMITTED])
    yield request(32, 4, 1, resources=[{"resource_type": 2, "resource_name": PERMITTED, "configuration_keys": None}])
    yield request(44, 1, 1, resources=[{"resource_type": 4, "resource_name": "1", "configs": []}])
    yield request(10, 6, 1, key_type=0, coordinator_keys=["g"]) + request(11, 9, 2, group_id="g", protocols=[])
    yield request(68, 1, 1, group_id="g", subscribed_topic_names=[PERMITTED]) + request(71, 0, 2)
    yield request(88, 0, 1, group_id="g", topology={"subtopologies": []})
    for epoch in (0, 1, -1):
        yield request(78, 2, 1, group_id="g", member_id="m", share_session_epoch=epoch, topics=by_id[:1])
    yield request(17, 1, 1, mechanism="PLAIN") + request(36, 2, 2, auth_bytes=b"\0u\0p")
    yield frame(18, 5, 1, "me", b"\1\2\3") + request(18, 4, 2)
    yield b"\x16\x03\x01\0\5" + bytes(5)
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield b"\x7f\xff\xff\xff" + bytes(8)


def answer_seeds() -> Iterator[bytes]:
    for variant, stream in _answers():
        yield shape(b"\1\7\0", variant=variant) + stream
        yield shape(b"\0\0\0", variant=variant, ending=4) + stream


def _answers() -> Iterator[tuple[int, bytes]]:
    told = [{"name": name, "topic_id": topic, "partitions": [_PARTITION]} for name, topic in IDS.items()]
    brokers = [{"node_id": 1, "host": "h", "port": 9092, "rack": None}]
    everything = {v: response(METADATA, v, 2, brokers=brokers, topics=told) for v in (9, 12)}
    beats = [response(12, 4, number) for number in (1, 2, 3)]
    produced = response(0, 9, 1, responses=[{"name": PERMITTED, "partition_responses": [{"index": 0}]}])
    yield 0, produced + everything[12] + beats[2]
    yield 0, beats[2] + produced
    yield 1, everything[9] + response(METADATA, 1, 1, brokers=brokers, topics=told)
    yield 2, response(75, 0, 2, topics=[{**it, "partitions": []} for it in told])
    partitions = [{"partition_index": 0, "committed_offset": 3, "metadata": "m"}]
    topics = [{"name": name, "partitions": partitions} for name in IDS]
    groups = response(9, 9, 2, groups=[{"group_id": "g", "topics": topics}])
    yield 3, response(9, 7, 1, topics=topics) + groups + beats[2]
    keys = [{"api_key": key, "min_version": 0, "max_version": 20} for key in (0, 1, 3, 18, 72, 200)]
    yield 4, response(18, 4, 1, api_keys=keys) + everything[12]
    yield 4, b"\0\0\0\x0e\0\0\0\1\0\x23\0\0\0\0\0\0\0\0"
    yield 5, response(18, 0, 1, api_keys=keys) + response(75, 0, 2, topics=[])
    yield 6, response(1, 17, 2, responses=[]) + beats[2]
    yield 7, everything[12] + beats[2] * 3
    yield 7, everything[12] + beats[2] * 4
    yield 7, b"\x40\0\0\1\0\0\0\2"
    yield 7, b"\0\0\0\3\0\0\0"


_PARTITION = {"partition_index": 0, "leader_id": 1, "replica_nodes": [1, 2], "isr_nodes": [1], "offline_replicas": []}
