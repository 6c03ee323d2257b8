"""confluent-kafka (librdkafka): `python -m tests.acceptance.kafka.confluent_client BOOTSTRAP NAME CASE…`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from tests.acceptance.kafka import outcomes
from tests.acceptance.kafka.outcomes import ALLOWED, FORBIDDEN, Case, attempt, bootstrap, patience_s, unique

WAIT_S = 10.0
WATCHED_S = 3.0
LATEST: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]


def name(error: BaseException) -> str:
    if isinstance(error, KafkaException) and isinstance(error.args[0], KafkaError):
        return str(error.args[0].name())
    return type(error).__name__


def base(**more: Any) -> dict[str, Any]:
    return {"bootstrap.servers": bootstrap(), "allow.auto.create.topics": False, **more}


def producer(**more: Any) -> Producer:
    settings = base(**{"message.timeout.ms": 8000, "request.timeout.ms": 5000, **more})
    del settings["allow.auto.create.topics"]
    return Producer(settings)


def send(client: Producer, *topics: str) -> str:
    """To these topics without waiting between them; then what became of each, in order."""
    told: dict[int, str] = {}
    for index, topic in enumerate(topics):

        def delivered(error: KafkaError | None, _: object, index: int = index) -> None:
            told[index] = error.name() if error is not None else "ok"

        client.produce(topic, value=b"hello", partition=0, on_delivery=delivered)
    client.flush(WAIT_S)
    return ", ".join(told.get(index, "no report") for index in range(len(topics)))


def produce(*topics: str, together: bool = False, **settings: Any) -> Case:
    def case() -> str:
        client = producer(**settings)
        return send(client, *topics) if together else ", ".join(send(client, topic) for topic in topics)

    return case


def transaction(topic: str, offsets: bool) -> Case:
    def case() -> str:
        client = producer(**{"transactional.id": f"txn-{topic}-{offsets}-{unique()}", "transaction.timeout.ms": 9000})
        steps = [attempt(lambda: client.init_transactions(WAIT_S), name)]
        if steps == ["ok"]:
            client.begin_transaction()
            steps.append(send(client, topic))
            if offsets and steps[-1] == "ok":
                consumer = Consumer(base(**{"group.id": f"txn-{unique()}"}))
                group = consumer.consumer_group_metadata()
                at = [TopicPartition(topic, 0, 1)]
                steps.append(attempt(lambda: client.send_offsets_to_transaction(at, group, WAIT_S), name))
            end = client.commit_transaction if set(steps) == {"ok"} else client.abort_transaction
            steps.append(attempt(lambda: end(WAIT_S), name))
        return ", ".join(steps)

    return case


def consume(*topics: str, protocol: str = "classic", commit: bool = True) -> Case:
    """Which topics gave records, which errors came, and what became of the commit."""

    def case() -> str:
        group = f"{protocol}-{'-'.join(topics)}-{unique()}"
        client = Consumer(
            base(
                **{
                    "group.id": group,
                    "group.protocol": protocol,
                    "auto.offset.reset": "earliest",
                    "enable.auto.commit": False,
                }
            )
        )
        client.subscribe(list(topics))
        seen = gather(client, *topics)
        if commit and seen & set(topics):
            seen.add("commit " + attempt(lambda: client.commit(asynchronous=False), name))
        client.close()
        return ", ".join(sorted(seen)) or "nothing"

    return case


def gather(client: Consumer, *topics: str) -> set[str]:
    """Until there are records of every topic, or patience ends: errors come one after the other."""
    seen: set[str] = set()
    deadline = time.monotonic() + patience_s(topics)
    while not seen >= set(topics) and time.monotonic() < deadline:
        message = client.poll(0.3)
        if message is None:
            continue
        error = message.error()
        seen.add(str(message.topic()) if error is None else str(error.name()))
    return seen


def consume_assigned(topic: str) -> Case:
    def case() -> str:
        client = Consumer(base(**{"group.id": "none", "enable.auto.commit": False}))
        client.assign([TopicPartition(topic, 0, 0)])
        seen = gather(client, topic)
        client.close()
        return ", ".join(sorted(seen)) or "nothing"

    return case


def closed(act: Callable[[dict[str, Any]], object]) -> Case:
    """How many connections of the client that `act` makes with these settings have ended, by anybody's doing."""

    def case() -> str:
        seen: list[dict[str, Any]] = []
        act({"statistics.interval.ms": 200, "stats_cb": lambda text: seen.append(json.loads(text))})
        return f"closed {sum(broker['disconnects'] for broker in seen[-1]['brokers'].values())}"

    return case


def produce_watched(settings: dict[str, Any]) -> None:
    client = producer(**settings)
    for topic in (ALLOWED, FORBIDDEN, ALLOWED):
        send(client, topic)
    client.poll(0.5)


def consume_watched(settings: dict[str, Any]) -> None:
    client = Consumer(base(**{"group.id": "watched", "enable.auto.commit": False}, **settings))
    client.assign([TopicPartition(ALLOWED, 0, 0)])
    deadline = time.monotonic() + WATCHED_S
    while time.monotonic() < deadline:
        client.poll(0.2)
    client.close()


def list_topics() -> str:
    return outcomes.visible(AdminClient(base()).list_topics(timeout=WAIT_S).topics)


def admin(ask: Callable[[AdminClient], dict[Any, Any]]) -> Case:
    def case() -> str:
        client = AdminClient(base())  # it ends when nobody holds it
        futures = ask(client)
        return ", ".join(attempt(lambda f=future: f.result(WAIT_S), name) for future in futures.values())  # type: ignore[misc]

    return case


def new_topic() -> NewTopic:
    return NewTopic(f"new-{unique()}", num_partitions=1, replication_factor=1)


def configs(topic: str) -> Case:
    return admin(lambda client: client.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, topic)]))


def offsets(topic: str) -> Case:
    return admin(lambda client: client.list_offsets({TopicPartition(topic, 0): LATEST}))


def describe(topic: str) -> Case:
    return admin(lambda client: client.describe_topics(TopicCollection([topic])))


CASES: dict[str, Case] = {
    "produce allowed": produce(ALLOWED),
    "produce forbidden": produce(FORBIDDEN),
    "produce one by one": produce(ALLOWED, FORBIDDEN, ALLOWED),
    "produce together": produce(ALLOWED, FORBIDDEN, ALLOWED, together=True, **{"linger.ms": 200}),
    "produce acks 0": produce(ALLOWED, FORBIDDEN, ALLOWED, acks=0),
    "produce idempotent": produce(ALLOWED, **{"enable.idempotence": True}),
    "transaction": transaction(ALLOWED, offsets=False),
    "transaction with offsets": transaction(ALLOWED, offsets=True),
    "transaction forbidden": transaction(FORBIDDEN, offsets=False),
    "consume allowed": consume(ALLOWED),
    "consume forbidden": consume(FORBIDDEN),
    "consume both": consume(ALLOWED, FORBIDDEN, commit=False),
    "consume assigned": consume_assigned(ALLOWED),
    "consume assigned forbidden": consume_assigned(FORBIDDEN),
    "group protocol allowed": consume(ALLOWED, protocol="consumer"),
    "group protocol forbidden": consume(FORBIDDEN, protocol="consumer"),
    "producer stays connected": closed(produce_watched),
    "consumer stays connected": closed(consume_watched),
    "list topics": list_topics,
    "create topic": admin(lambda client: client.create_topics([new_topic()], operation_timeout=WAIT_S)),
    "delete topic": admin(lambda client: client.delete_topics([f"new-{unique()}"], operation_timeout=WAIT_S)),
    "delete allowed": admin(lambda client: client.delete_topics([ALLOWED], operation_timeout=WAIT_S)),
    "describe allowed": describe(ALLOWED),
    "describe forbidden": describe(FORBIDDEN),
    "configs allowed": configs(ALLOWED),
    "configs forbidden": configs(FORBIDDEN),
    "offsets allowed": offsets(ALLOWED),
    "offsets forbidden": offsets(FORBIDDEN),
}

if __name__ == "__main__":
    outcomes.run(CASES, name)
