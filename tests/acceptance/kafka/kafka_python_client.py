"""kafka-python: `python -m tests.acceptance.kafka.kafka_python_client BOOTSTRAP NAME CASE…`."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tests.acceptance.kafka import outcomes
from tests.acceptance.kafka.outcomes import ALLOWED, FORBIDDEN, Case, attempt, bootstrap, patience_s, unique

kafka: Any = import_module("kafka")  # without types
admins: Any = import_module("kafka.admin")
WAIT_S = 10.0


def name(error: BaseException) -> str:
    return type(error).__name__.removesuffix("Error")


def producer(**settings: Any) -> Any:
    waits = {"delivery_timeout_ms": 8000, "request_timeout_ms": 5000, "max_block_ms": 8000}
    return kafka.KafkaProducer(bootstrap_servers=bootstrap(), allow_auto_create_topics=False, **{**waits, **settings})


def start(client: Any, topic: str) -> Callable[[], str]:
    """Send; what is returned waits for the end of it."""
    try:
        future = client.send(topic, b"hello", partition=0)
    except Exception as error:
        failed = name(error)
        return lambda: failed
    return lambda: attempt(lambda: future.get(timeout=WAIT_S), name)


def produce(*topics: str, together: bool = False, **settings: Any) -> Case:
    def case() -> str:
        client = producer(**settings)
        if together:
            return ", ".join([end() for end in [start(client, topic) for topic in topics]])
        return ", ".join(start(client, topic)() for topic in topics)

    return case


def transaction(topic: str, offsets: bool) -> Case:
    def case() -> str:
        client = producer(transactional_id=f"txn-{topic}-{offsets}-{unique()}", transaction_timeout_ms=9000)
        steps = [attempt(client.init_transactions, name)]
        if steps == ["ok"]:
            client.begin_transaction()
            steps.append(start(client, topic)())
            if offsets and steps[-1] == "ok":
                at = {kafka.TopicPartition(topic, 0): kafka.OffsetAndMetadata(1, "", -1)}
                steps.append(attempt(lambda: client.send_offsets_to_transaction(at, f"txn-{unique()}"), name))
            end = client.commit_transaction if set(steps) == {"ok"} else client.abort_transaction
            steps.append(attempt(end, name))
        return ", ".join(steps)

    return case


def consumer(**settings: Any) -> Any:
    return kafka.KafkaConsumer(
        bootstrap_servers=bootstrap(),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **settings,
    )


def consume(*topics: str) -> Case:
    """Which topics gave records, which errors came, and what became of the commit."""

    def case() -> str:
        client = consumer(group_id=f"classic-{'-'.join(topics)}-{unique()}")
        client.subscribe(list(topics))
        seen = gather(client, set(topics))
        if seen & set(topics):
            seen.add("commit " + attempt(client.commit, name))
        client.close()
        return ", ".join(sorted(seen)) or "nothing"

    return case


def consume_assigned(topic: str) -> Case:
    def case() -> str:
        client = consumer()
        client.assign([kafka.TopicPartition(topic, 0)])
        return ", ".join(sorted(gather(client, {topic}))) or "nothing"

    return case


def gather(client: Any, wanted: set[str]) -> set[str]:
    """Until every topic has shown something, or patience ends."""
    seen: set[str] = set()
    deadline = time.monotonic() + patience_s(wanted)
    while len(seen) < len(wanted) and time.monotonic() < deadline:
        try:
            seen.update(partition.topic for partition, records in client.poll(300).items() if records)
        except Exception as error:
            seen.add(name(error))
            time.sleep(0.1)
    return seen


def admin(ask: Callable[[Any], object]) -> Case:
    """What `ask` returns, or "ok" if that is no text."""

    def case() -> str:
        client = kafka.KafkaAdminClient(bootstrap_servers=bootstrap(), request_timeout_ms=8000)
        try:
            told = ask(client)
        finally:
            client.close()
        return told if isinstance(told, str) else "ok"

    return case


def describe(topic: str) -> Case:
    def ask(client: Any) -> str:
        return ", ".join(str(found.get("error_code", found)) for found in client.describe_topics([topic]))

    return admin(ask)


def configs(topic: str) -> Case:
    """It leaves errors out of what it tells."""

    def ask(client: Any) -> str:
        resource = admins.ConfigResource(admins.ConfigResourceType.TOPIC, topic)
        told = client.describe_configs([resource], config_filter="all")
        return "ok" if told["topic"][topic] else "no configs"

    return admin(ask)


def offsets(topic: str) -> Case:
    return admin(
        lambda client: client.list_partition_offsets({kafka.TopicPartition(topic, 0): admins.OffsetSpec.LATEST})
    )


CASES: dict[str, Case] = {
    "produce allowed": produce(ALLOWED),
    "produce forbidden": produce(FORBIDDEN),
    "produce one by one": produce(ALLOWED, FORBIDDEN, ALLOWED),
    "produce together": produce(ALLOWED, FORBIDDEN, ALLOWED, together=True, linger_ms=200),
    "produce acks 0": produce(ALLOWED, FORBIDDEN, ALLOWED, acks=0, enable_idempotence=False),
    "produce idempotent": produce(ALLOWED, enable_idempotence=True),
    "transaction": transaction(ALLOWED, offsets=False),
    "transaction with offsets": transaction(ALLOWED, offsets=True),
    "transaction forbidden": transaction(FORBIDDEN, offsets=False),
    "consume allowed": consume(ALLOWED),
    "consume forbidden": consume(FORBIDDEN),
    # Not "consume both": then it depends on what it learns first whether it ever gives records.
    "consume assigned": consume_assigned(ALLOWED),
    "consume assigned forbidden": consume_assigned(FORBIDDEN),
    "list topics": admin(lambda client: outcomes.visible(client.list_topics())),
    "create topic": admin(lambda client: client.create_topics([admins.NewTopic(f"new-{unique()}", 1, 1)])),
    "delete topic": admin(lambda client: client.delete_topics([f"new-{unique()}"])),
    "delete allowed": admin(lambda client: client.delete_topics([ALLOWED])),
    "describe allowed": describe(ALLOWED),
    "describe forbidden": describe(FORBIDDEN),
    "configs allowed": configs(ALLOWED),
    "configs forbidden": configs(FORBIDDEN),
    "offsets allowed": offsets(ALLOWED),
    "offsets forbidden": offsets(FORBIDDEN),
}

if __name__ == "__main__":
    outcomes.run(CASES, name)
