"""Cases of Cilium's Kafka parser as bytes on the wire (`cilium-cases.md`, section 13)."""

from __future__ import annotations

from config.policy.resolved import KafkaRule
from parsers.limits import KafkaLimits
from tests.parsers.kafka.driving import Wire, frame, request

EMPTY_TOPICS: list[dict[str, object]] = [{"name": name, "partition_data": []} for name in ("EF", "GH")]
NUMBER = 0x00010001


def test_f08_a_refusal_of_topics_without_partitions() -> None:
    """F08: without partitions there is no place for an error; the last four bytes are the throttle time."""
    wire = Wire(KafkaRule(None, topic="EF"))
    wire.client(request(0, 3, NUMBER, client="ABC", acks=1, topic_data=EMPTY_TOPICS))
    assert bytes(wire.to_client) == bytes.fromhex(
        "0000001c 00010001 00000002 0002 4546 00000000 0002 4748 00000000 00000000"
    )
    assert (bytes(wire.to_server), wire.filter.end) == (b"", None)


def test_f17_fewer_bytes_than_a_header_are_waited_for() -> None:
    """F17"""
    whole = request(12, 0, group_id="g", generation_id=1, member_id="m")
    for count in range(1, 8):
        wire = Wire(KafkaRule(None))
        wire.client(whole[:count])
        assert (bytes(wire.to_server), bytes(wire.to_client), wire.filter.end) == (b"", b"", None)
        assert wire.shared.held_bytes == count
        wire.client(whole[count:])
        assert wire.sent() == [whole]
        assert wire.shared.held_bytes == 0


def test_f18_the_rest_of_a_large_frame_is_waited_for() -> None:
    """F18: of 65,536 bytes twelve are there."""
    whole = frame(24, 0, 1, "", bytes(65536 - 10))
    assert whole[:4] == (65536).to_bytes(4, "big")
    wire = Wire(KafkaRule(None))
    wire.client(whole[:12])
    assert (bytes(wire.to_server), bytes(wire.to_client), wire.filter.end) == (b"", b"", None)
    assert wire.shared.held_bytes == 12
    assert wire.filter.unfinished_head


def test_f18_of_records_too() -> None:
    """F18"""
    partition = {"index": 0, "records": bytes(65536 - 41)}
    whole = request(0, 3, client="ABC", acks=1, topic_data=[{"name": "EF", "partition_data": [partition]}])
    assert whole[:4] == (65536).to_bytes(4, "big")
    wire = Wire(KafkaRule(None, topic="EF"), limits=KafkaLimits(small_request_bytes=1000))
    wire.client(whole[:12])
    assert (bytes(wire.to_server), wire.filter.end, wire.shared.held_bytes) == (b"", None, 12)
    wire.client(whole[12:])
    assert wire.sent() == [whole]
