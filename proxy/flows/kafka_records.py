"""Kafka requests and their answers as flow records.

As with HTTP a refused request is two flows: the DROPPED request, and the answer that was FORWARDED to the client, with
an error code that says so (29 where a topic is not permitted). A request about several topics is one flow, whose topic
is all of them with commas between: Hubble's record has room for one, and one flow per topic would tell of requests
that nobody made.
"""

from __future__ import annotations

from config.policy.kafka_apis import API_NAMES
from proxy.flows import summary
from proxy.flows.links import ExchangeRecord, exchange_flow
from proxy.flows.model import L7, Flow, Kafka, L7Type
from proxy.flows.wire import KafkaExchange


class KafkaRecord(ExchangeRecord[KafkaExchange], frozen=True, gc=False):
    """A request or its response."""

    def observation(self, uuid: str) -> Flow:
        return _kafka_flow(self, uuid)


def api_name(key: int) -> str:
    """`produce`; the number of a kind of request that is not known here."""
    return API_NAMES[key].lower() if 0 <= key < len(API_NAMES) else str(key)


def _kafka_flow(record: KafkaRecord, uuid: str) -> Flow:
    exchange, reply = record.exchange, record.response
    kafka = _kafka(exchange, exchange.error_code if reply else 0)
    if reply:
        l7 = L7(L7Type.RESPONSE, exchange.latency_ns, "kafka", kafka=kafka)
        return exchange_flow(record, uuid, l7, summary.kafka_response(kafka))
    return exchange_flow(record, uuid, L7(L7Type.REQUEST, 0, "kafka", kafka=kafka), summary.kafka_request(kafka))


def _kafka(exchange: KafkaExchange, code: int) -> Kafka:
    return Kafka(
        code,
        exchange.api_version,
        api_name(exchange.api_key),
        exchange.correlation_id,
        _topic(exchange),
        exchange.client_id,
    )


def _topic(exchange: KafkaExchange) -> str:
    # No topic of a Kafka server has a comma in its name; what a client asks for may.
    names = ",".join(topic.replace(",", "\\x2c") for topic in exchange.topics)
    return f"{names} and {exchange.more} more" if exchange.more else names
