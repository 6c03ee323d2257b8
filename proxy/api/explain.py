"""`/v1/policy/explain`: query parameters → the explanation as JSON.

Names are those of the CLI's options. A parameter that is not known is refused: a question that is half understood
gets the wrong answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from config.policy.explain import World, explain
from config.policy.parties import DEFAULT_NAMESPACE
from proxy.api.models import ApiError, Json
from proxy.questions import Asked, QuestionError, question

_NEEDED: Final = ("from", "to")
_SINGLE: Final = (*_NEEDED, "port", "namespace", "http", "host", "grpc", "dns", "kafka", "sni", "all")
_REPEATED: Final = ("header", "name")
_KNOWN: Final = (*_SINGLE, *_REPEATED)


def parse(pairs: Iterable[tuple[str, str]]) -> tuple[Asked, bool]:
    """What is asked, and whether about all policies. ApiError 400 says which parameter is wrong."""
    single: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in _REPEATED:
            repeated.setdefault(name, []).append(value)
        elif name in single:
            raise ApiError(400, "bad-parameter", f"parameter {name!r} is given twice")
        elif name in _SINGLE:
            single[name] = value
        else:
            raise _unknown(name)
    for name in _NEEDED:
        if not single.get(name):
            raise ApiError(400, "bad-parameter", f"parameter {name!r} is missing")
    asked = Asked(
        source=single["from"],
        destination=single["to"],
        port=single.get("port", ""),
        namespace=single.get("namespace", DEFAULT_NAMESPACE),
        http=single.get("http", ""),
        headers=tuple(repeated.get("header", ())),
        host=single.get("host", ""),
        grpc=single.get("grpc", ""),
        names=tuple(repeated.get("name", ())),
        dns=single.get("dns", ""),
        kafka=single.get("kafka", ""),
        sni=single.get("sni", ""),
    )
    return asked, _flag(single.get("all", "false"))


def parameters(asked: Asked, *, everything: bool) -> list[tuple[str, str]]:
    """What `parse` reads."""
    single = [
        ("from", asked.source),
        ("to", asked.destination),
        ("port", asked.port),
        ("namespace", asked.namespace),
        ("http", asked.http),
        ("host", asked.host),
        ("grpc", asked.grpc),
        ("dns", asked.dns),
        ("kafka", asked.kafka),
        ("sni", asked.sni),
        ("all", "true" if everything else ""),
    ]
    repeated = [("header", text) for text in asked.headers] + [("name", text) for text in asked.names]
    return [(name, value) for name, value in single if value] + repeated


def answer(world: World, asked: Asked, *, everything: bool) -> Json:
    """Pure and bounded, but not instant with many policies. ApiError 400 where the question makes no sense."""
    try:
        return explain(world, question(asked, world), everything=everything).to_json()
    except QuestionError as error:
        raise ApiError(400, "bad-question", str(error)) from None


def _flag(value: str) -> bool:
    if value.lower() not in ("true", "1", "", "false", "0"):
        raise ApiError(400, "bad-parameter", f"all: expected true or false, not {value!r}")
    return value.lower() in ("true", "1", "")


def _unknown(name: str) -> ApiError:
    close = get_close_matches(name, _KNOWN, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(_KNOWN)}"
    return ApiError(400, "bad-parameter", f"unknown parameter {name!r}", hint)
