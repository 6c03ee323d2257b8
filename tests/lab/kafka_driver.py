"""A Kafka client in a pod that does what it is told: `python -P kafka_driver.py LIBRARY BOOTSTRAP`.

Orders come as lines of JSON with the method in `do`, and each is answered with one: `code` is Kafka's error code, 0
for success, or a word (`timeout`) where there is none; `values` are what was asked for. One producer lives as long as
the program, so that its connections can be watched.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

WAIT_S = 8.0
CONSUME_S = 12.0

Told = dict[str, Any]


def told(code: int | str = 0, values: list[str] | None = None) -> Told:
    return {"code": code, "values": values or []}


class Client(Protocol):
    def produce(self, topic: str, value: str, acks: int = 1) -> Told: ...

    def bulk(self, topic: str, count: int, size: int) -> Told:
        """Many records at once; `values` are one for each that was acknowledged."""
        ...

    def consume(self, topic: str, group: str, value: str = "") -> Told:
        """Until a record comes, with this value if there is one. Without a group the partition is assigned."""
        ...

    def topics(self) -> Told: ...


# -- kafka-python ----------------------------------------------------------------------------------------------------


class KafkaPython:
    def __init__(self, bootstrap: str) -> None:
        import kafka

        self._kafka: Any = kafka
        self._common = {"bootstrap_servers": bootstrap, "allow_auto_create_topics": False}
        self._producers: dict[int, Any] = {}

    def _producer(self, acks: int) -> Any:
        if acks not in self._producers:
            wait = int(WAIT_S * 1000)
            waits = {"max_block_ms": wait, "delivery_timeout_ms": wait, "request_timeout_ms": wait - 1000}
            self._producers[acks] = self._kafka.KafkaProducer(
                **self._common, **waits, acks=acks, enable_idempotence=False
            )
        return self._producers[acks]

    def produce(self, topic: str, value: str, acks: int = 1) -> Told:
        try:
            self._producer(acks).send(topic, value.encode(), partition=0).get(WAIT_S)
        except self._kafka.errors.KafkaError as error:
            return told(_code(error))
        return told()

    def bulk(self, topic: str, count: int, size: int) -> Told:
        futures = [self._producer(1).send(topic, bytes(size), partition=0) for _ in range(count)]
        return told(0, [str(future.get(60).offset) for future in futures])

    def _consumer(self, group: str) -> Any:
        settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 200}
        return self._kafka.KafkaConsumer(**self._common, **settings, group_id=group or None)

    def consume(self, topic: str, group: str, value: str = "") -> Told:
        client = self._consumer(group)
        if group:
            client.subscribe([topic])
        else:
            client.assign([self._kafka.TopicPartition(topic, 0)])
        deadline = time.monotonic() + CONSUME_S
        seen: list[str] = []
        try:
            while time.monotonic() < deadline:
                for records in client.poll(200).values():
                    seen += [record.value.decode() for record in records]
                if seen and value in ("", *seen):
                    return told(0, seen)
                if topic in client._cluster.unauthorized_topics:
                    return told(29)
        except self._kafka.errors.KafkaError as error:
            return told(_code(error), seen)
        finally:
            client.close()
        return told("timeout", seen)

    def topics(self) -> Told:
        client = self._consumer("")
        try:
            return told(0, sorted(client.topics()))
        finally:
            client.close()

    def end(self, topic: str) -> Told:
        """How many records there ever were."""
        client = self._consumer("")
        try:
            partition = self._kafka.TopicPartition(topic, 0)
            return told(0, [str(client.end_offsets([partition])[partition])])
        finally:
            client.close()


def _code(error: BaseException) -> int | str:
    """Of an error of kafka-python or aiokafka."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return number
    return "timeout" if "Timeout" in type(error).__name__ else type(error).__name__


# -- confluent-kafka -------------------------------------------------------------------------------------------------


class Confluent:
    def __init__(self, bootstrap: str) -> None:
        import confluent_kafka

        self._library: Any = confluent_kafka
        self._common = {"bootstrap.servers": bootstrap}
        self._producers: dict[int, Any] = {}

    def _producer(self, acks: int) -> Any:
        if acks not in self._producers:
            settings = {"message.timeout.ms": int(WAIT_S * 1000), "acks": acks}
            self._producers[acks] = self._library.Producer({**self._common, **settings})
        return self._producers[acks]

    def produce(self, topic: str, value: str, acks: int = 1) -> Told:
        codes: list[int | str] = []
        producer = self._producer(acks)
        try:
            producer.produce(
                topic, value.encode(), partition=0, on_delivery=lambda error, _: codes.append(self._of(error))
            )
        except self._library.KafkaException as refused:  # it knows already
            return told(self._of(refused.args[0]))
        producer.flush(WAIT_S + 2)
        return told(codes[0] if codes else "timeout")

    def bulk(self, topic: str, count: int, size: int) -> Told:
        offsets: list[str] = []
        producer = self._producer(1)
        for _ in range(count):
            producer.produce(topic, bytes(size), partition=0, on_delivery=lambda _, sent: offsets.append(sent.offset()))
        producer.flush(60)
        return told(0, [str(offset) for offset in offsets if offset is not None])

    def consume(self, topic: str, group: str, value: str = "") -> Told:
        settings = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "group.id": group or "none"}
        client = self._library.Consumer({**self._common, **settings, "allow.auto.create.topics": False})
        if group:
            client.subscribe([topic])
        else:
            client.assign([self._library.TopicPartition(topic, 0, self._library.OFFSET_BEGINNING)])
        deadline = time.monotonic() + CONSUME_S
        seen: list[str] = []
        code: int | str = "timeout"
        while time.monotonic() < deadline:
            message = client.poll(0.2)
            if message is None:
                continue
            if message.error() is not None:
                code = self._of(message.error())
                break
            seen.append(message.value().decode())
            if value in ("", *seen):
                code = 0
                break
        client.close()
        return told(code, seen)

    def topics(self) -> Told:
        found = self._producer(1).list_topics(timeout=WAIT_S).topics
        return told(0, sorted(name for name, topic in found.items() if topic.error is None))

    @staticmethod
    def _of(error: Any) -> int | str:
        if error is None:
            return 0
        # Negative ones are librdkafka's own.
        return int(error.code()) if error.code() > 0 else str(error.name())


# -- aiokafka --------------------------------------------------------------------------------------------------------


class AioKafka:
    def __init__(self, bootstrap: str) -> None:
        import aiokafka  # type: ignore[import-untyped]

        self._library: Any = aiokafka
        self._common = {"bootstrap_servers": bootstrap, "request_timeout_ms": int(WAIT_S * 1000)}
        self._producers: dict[int, Any] = {}
        self._loop = asyncio.new_event_loop()

    def _run(self, work: Any, wait_s: float) -> Any:
        return self._loop.run_until_complete(asyncio.wait_for(work, wait_s))

    async def _producer(self, acks: int) -> Any:
        if acks not in self._producers:
            self._producers[acks] = self._library.AIOKafkaProducer(**self._common, acks=acks)
            await self._producers[acks].start()
        return self._producers[acks]

    def produce(self, topic: str, value: str, acks: int = 1) -> Told:
        async def work() -> None:
            await (await self._producer(acks)).send_and_wait(topic, value.encode(), partition=0)

        return self._answer(work(), WAIT_S + 2)

    def bulk(self, topic: str, count: int, size: int) -> Told:
        async def work() -> list[str]:
            producer = await self._producer(1)
            futures = [await producer.send(topic, bytes(size), partition=0) for _ in range(count)]
            return [str(sent.offset) for sent in await asyncio.gather(*futures)]

        return self._answer(work(), 60)

    def consume(self, topic: str, group: str, value: str = "") -> Told:
        async def work() -> list[str]:
            settings = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 200}
            client = self._library.AIOKafkaConsumer(
                *([topic] if group else []), **self._common, **settings, group_id=group or None
            )
            try:
                await client.start()
                if not group:
                    client.assign([self._library.TopicPartition(topic, 0)])
                seen: list[str] = []
                while not seen or value not in ("", *seen):
                    seen.append((await client.getone()).value.decode())
                return seen
            finally:
                await client.stop()

        return self._answer(work(), CONSUME_S)

    def topics(self) -> Told:
        async def work() -> list[str]:
            producer = await self._producer(1)
            return sorted((await producer.client.fetch_all_metadata()).topics())

        return self._answer(work(), WAIT_S)

    def _answer(self, work: Any, wait_s: float) -> Told:
        try:
            found = self._run(work, wait_s)
        except TimeoutError:
            return told("timeout")
        except self._library.errors.KafkaError as error:
            return told(_code(error))
        return told(0, found)


LIBRARIES: dict[str, Callable[[str], Client]] = {
    "kafka-python": KafkaPython,
    "confluent-kafka": Confluent,
    "aiokafka": AioKafka,
}


def main(library: str, bootstrap: str) -> None:
    logging.disable(logging.CRITICAL)  # clients say everything that goes wrong again and again
    client = LIBRARIES[library](bootstrap)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(client, order.pop("do"))(**order)
        except Exception as error:
            answer = told(f"{type(error).__name__}: {error}")
        print(json.dumps(answer), flush=True)
    os._exit(0)  # the clients' threads may still wait for something


if __name__ == "__main__":
    main(*sys.argv[1:])
