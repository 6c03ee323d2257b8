"""Which topics a request is about."""

from __future__ import annotations

from dataclasses import dataclass

from parsers.kafka.codecs import decode_request, shape

CONFIGS = frozenset((32, 33, 44))
"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs: of topics, brokers, groups, …"""

SHARE_STATE = frozenset(range(83, 88))
"""Brokers keep the state of share groups for each other: a matter of the cluster, and topics may be gone already."""

TOPIC_RESOURCE = 2


@dataclass(frozen=True, slots=True)
class Named:
    """Names and ids (16 bytes), each once; `everything`: the request is about all topics, or about more than topics."""

    names: tuple[str, ...] = ()
    ids: tuple[bytes, ...] = ()
    everything: bool = False


def named_topics(key: int, version: int, body: bytes) -> Named | None:
    """What the body of a request names; None: this kind of request is not about topics. Raises ParseError."""
    if key in CONFIGS:
        return _configured(key, version, body)
    form = shape(key, "request", version)
    noted = form.read(body)
    if not form.has_topics:
        return None
    if key in SHARE_STATE:
        return Named(everything=True)
    names, ids, everything = tuple(dict.fromkeys(noted.names)), tuple(dict.fromkeys(noted.ids)), noted.everything
    match key:
        case 68 | 76:
            # Null means unchanged; ids are the server's own assignment, told back to it.
            return Named(names)
        case 75:
            return Named(names, everything=not names)
    return Named(names, ids, everything)


def _configured(key: int, version: int, body: bytes) -> Named:
    resources = decode_request(key, version, body).resources or ()
    topics = [item.resource_name for item in resources if item.resource_type == TOPIC_RESOURCE]
    return Named(tuple(dict.fromkeys(topics)), everything=len(topics) < len(resources) or not resources)
