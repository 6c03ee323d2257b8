"""The requests that can be read, with their versions (Apache Kafka 4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parsers.kafka.codecs import CLASSES

NEVER = 1 << 15
"""A version that there is not."""

SASL_HANDSHAKE = 17


@dataclass(frozen=True, slots=True)
class Api:
    """`flexible`: the first version with compact lengths and tagged fields (KIP-482)."""

    key: int
    name: str
    lowest: int
    highest: int
    flexible: int


def _api(schema: Mapping[str, Any]) -> Api:
    key, name = schema["apiKey"], schema["name"].removesuffix("Request")
    low, _, high = schema["validVersions"].partition("-")
    lowest = max(int(low), _LOWEST.get(key, 0))
    flexible = schema["flexibleVersions"].removesuffix("+")
    return Api(key, name, lowest, int(high or low), NEVER if flexible == "none" else int(flexible))


_LOWEST = {SASL_HANDSHAKE: 1}
"""SaslHandshake 0 goes on in tokens without frames, which nobody can follow."""

APIS: Mapping[int, Api] = {key: _api(cls.json) for (key, kind), cls in sorted(CLASSES.items()) if kind == "request"}

ADVERTISED_LOWEST = {0: 0}
"""Old librdkafka takes a server that does not offer Produce 0 for one that is too new (KAFKA-18659)."""

TOPIC_ID_CAPS = {0: 12, 1: 12, 8: 9, 9: 9, 20: 5}
"""The last versions that name topics by their names."""

NAMELESS = frozenset((76, 77, 78, 79, 90, 91, 92))
"""Share groups: they know topics by their ids only."""
