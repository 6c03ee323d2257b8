"""aiokafka: `python -m tests.acceptance.kafka.aiokafka_client BOOTSTRAP NAME CASE…`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from tests.acceptance.kafka.outcomes import ALLOWED, FORBIDDEN, Case, bootstrap, patience_s, run, unique, visible

WAIT_S = 10.0


def name(error: BaseException) -> str:
    return type(error).__name__.removesuffix("Error")


async def attempt(work: Awaitable[object]) -> str:
    try:
        await asyncio.wait_for(work, WAIT_S)
    except Exception as error:
        return name(error)
    return "ok"


def case(work: Callable[[], Coroutine[Any, Any, str]]) -> Case:
    return lambda: asyncio.run(work())


def producer(**settings: Any) -> Any:
    return AIOKafkaProducer(bootstrap_servers=bootstrap(), request_timeout_ms=5000, **settings)


async def send(client: Any, topic: str) -> str:
    async def work() -> None:
        await client.send_and_wait(topic, b"hello", partition=0)

    return await attempt(work())


def produce(*topics: str, together: bool = False, **settings: Any) -> Case:
    async def work() -> str:
        client = producer(**settings)
        if (started := await attempt(client.start())) != "ok":
            return f"start {started}"
        if together:
            told = await asyncio.gather(*(send(client, topic) for topic in topics))
        else:
            told = [await send(client, topic) for topic in topics]
        await attempt(client.stop())
        return ", ".join(told)

    return case(work)


def transaction(topic: str, offsets: bool) -> Case:
    async def work() -> str:
        client = producer(transactional_id=f"txn-{topic}-{offsets}-{unique()}", transaction_timeout_ms=9000)
        steps = [await attempt(client.start())]
        if steps == ["ok"]:
            await client.begin_transaction()
            steps.append(await send(client, topic))
            if offsets and steps[-1] == "ok":
                at = {TopicPartition(topic, 0): OffsetAndMetadata(1, "")}
                steps.append(await attempt(client.send_offsets_to_transaction(at, f"txn-{unique()}")))
            done = set(steps) == {"ok"}
            steps.append(await attempt(client.commit_transaction() if done else client.abort_transaction()))
            await attempt(client.stop())
        return ", ".join(steps)

    return case(work)


def consumer(**settings: Any) -> Any:
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap(), auto_offset_reset="earliest", enable_auto_commit=False, **settings
    )


def consume(*topics: str, commit: bool = True) -> Case:
    """Which topics gave records, which errors came, and what became of the commit."""

    async def work() -> str:
        client = consumer(group_id=f"classic-{'-'.join(topics)}-{unique()}")
        client.subscribe(list(topics))
        seen = await gather(client, set(topics))
        if commit and seen & set(topics):
            seen.add("commit " + await attempt(client.commit()))
        await attempt(client.stop())
        return ", ".join(sorted(seen)) or "nothing"

    return case(work)


def consume_assigned(topic: str) -> Case:
    async def work() -> str:
        client = consumer()
        client.assign([TopicPartition(topic, 0)])
        seen = await gather(client, {topic})
        await attempt(client.stop())
        return ", ".join(sorted(seen)) or "nothing"

    return case(work)


async def gather(client: Any, wanted: set[str]) -> set[str]:
    """Until every topic has shown something, or patience ends."""
    started = await attempt(client.start())
    if started != "ok":
        return {f"start {started}"}
    seen: set[str] = set()
    deadline = time.monotonic() + patience_s(wanted)
    while len(seen) < len(wanted) and time.monotonic() < deadline:
        try:
            found = await client.getmany(timeout_ms=300)
            seen.update(partition.topic for partition, records in found.items() if records)
        except Exception as error:
            seen.add(name(error))
            await asyncio.sleep(0.1)
    return seen


def admin(ask: Callable[[Any], Awaitable[Any]]) -> Case:
    """The error codes in what comes back; text stands for itself."""

    async def work() -> str:
        client = AIOKafkaAdminClient(bootstrap_servers=bootstrap(), request_timeout_ms=5000)
        await client.start()
        try:
            told = await asyncio.wait_for(ask(client), WAIT_S)
        finally:
            await attempt(client.close())
        return told if isinstance(told, str) else ", ".join(codes(told))

    return case(work)


def codes(told: Any) -> list[str]:
    """The error codes of the responses: they are in no common place."""
    if isinstance(told, dict):
        return [f"error {told['error_code']}"] if "error_code" in told else []
    found: list[str] = []
    for response in told if isinstance(told, list) else [told]:
        if isinstance(response, dict):
            found += codes(response)
            continue
        for field in ("topic_errors", "topic_error_codes", "resources"):
            for entry in getattr(response, field, ()):
                found.append(f"error {next(item for item in entry if isinstance(item, int))}")
    return found


async def topics(client: Any) -> str:
    return visible(await client.list_topics())


def configs(topic: str) -> Case:
    return admin(lambda client: client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))


CASES: dict[str, Case] = {
    "produce allowed": produce(ALLOWED),
    "produce forbidden": produce(FORBIDDEN),
    "produce one by one": produce(ALLOWED, FORBIDDEN, ALLOWED),
    "produce together": produce(ALLOWED, FORBIDDEN, ALLOWED, together=True, linger_ms=200),
    "produce acks 0": produce(ALLOWED, FORBIDDEN, ALLOWED, acks=0),
    "produce idempotent": produce(ALLOWED, enable_idempotence=True),
    "transaction": transaction(ALLOWED, offsets=False),
    "transaction with offsets": transaction(ALLOWED, offsets=True),
    "transaction forbidden": transaction(FORBIDDEN, offsets=False),
    "consume allowed": consume(ALLOWED),
    "consume forbidden": consume(FORBIDDEN),
    "consume both": consume(ALLOWED, FORBIDDEN, commit=False),
    "consume assigned": consume_assigned(ALLOWED),
    "consume assigned forbidden": consume_assigned(FORBIDDEN),
    "list topics": admin(topics),
    "create topic": admin(lambda client: client.create_topics([NewTopic(f"new-{unique()}", 1, 1)])),
    "delete topic": admin(lambda client: client.delete_topics([f"new-{unique()}"])),
    "delete allowed": admin(lambda client: client.delete_topics([ALLOWED])),
    "describe allowed": admin(lambda client: client.describe_topics([ALLOWED])),
    "describe forbidden": admin(lambda client: client.describe_topics([FORBIDDEN])),
    "configs allowed": configs(ALLOWED),
    "configs forbidden": configs(FORBIDDEN),
}

if __name__ == "__main__":
    run(CASES, name)
