"""`penstock policy explain`'s options → a `Question`, whether they come from the command line, the API or a table.

Requests go through the proxy's own parsers: what is judged is what would be judged on the wire, in canonical form,
and what the proxy would not even read is no question.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

from config.policy.explain import Party, Question, World
from config.policy.kafka_apis import API_KEYS, WITH_TOPICS
from config.policy.named_ports import own_ports
from config.policy.parties import DEFAULT_NAMESPACE, PartyError, find_party
from config.policy.requests import L7Facts
from config.policy.resolved import Address, Protocol
from config.policy.rules import PortSpec
from parsers.errors import ParseError
from parsers.facts import ClientHello, DnsQuery, KafkaRequest
from parsers.http1.request import parse_request_untrusted
from parsers.limits import Http1Limits

_PROTOCOLS: Final = {
    "tcp": Protocol.TCP,
    "udp": Protocol.UDP,
    "sctp": Protocol.SCTP,
    "icmp": Protocol.ICMP,
    "icmpv6": Protocol.ICMPV6,
}
_ICMP: Final = (Protocol.ICMP, Protocol.ICMPV6)
_HTTP_PORT: Final = 80
_LIMITS: Final = Http1Limits()
_GRPC_METHOD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/[A-Za-z_][A-Za-z0-9_]*")
_HTTP: Final = re.compile(r"(\S+) +(\S+)")
_DNS_NAME: Final = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?\.?")
_LONGEST_NAME: Final = 253
_WORD: Final = re.compile(r"[A-Za-z0-9]{1,10}")


class QuestionError(ValueError):
    """The question makes no sense as it stands. Says which option is wrong, and what is expected."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as text; empty: not given. `namespace` is that of pods and labels without one."""

    source: str
    destination: str
    port: str = ""
    namespace: str = DEFAULT_NAMESPACE
    http: str = ""
    headers: tuple[str, ...] = ()
    host: str = ""
    grpc: str = ""
    names: tuple[str, ...] = ()
    dns: str = ""
    kafka: str = ""
    sni: str = ""


def names_of(texts: Iterable[str]) -> dict[str, tuple[Address, ...]]:
    """`NAME=IP` → addresses by name. Raises QuestionError."""
    found: dict[str, tuple[Address, ...]] = {}
    for text in texts:
        name, separator, address = text.partition("=")
        name = name.strip().lower().removesuffix(".")
        if not separator or not _DNS_NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
            raise QuestionError(f"--name: expected NAME=IP, not {text!r}")
        try:
            found[name] = (*found.get(name, ()), ip_address(address.strip()))
        except ValueError:
            raise QuestionError(f"--name: {address!r} is not an IP address") from None
    return found


def question(asked: Asked, world: World) -> Question:
    """What is asked about `world`. Raises QuestionError."""
    names = names_of(asked.names)
    source = _party("--from", asked.source, asked, world, names)
    destination = _party("--to", asked.destination, asked, world, names)
    protocol, port = _port(asked.port or _usual_port(asked), destination)
    request = _request(asked, destination, protocol, port)
    return Question(source, destination, protocol, port, request)


def _party(option: str, text: str, asked: Asked, world: World, names: Mapping[str, tuple[Address, ...]]) -> Party:
    try:
        return find_party(text, world.snapshot, namespace=asked.namespace or DEFAULT_NAMESPACE, names=names)
    except PartyError as error:
        raise QuestionError(f"{option}: {error}") from None


def _usual_port(asked: Asked) -> str:
    for given, port in (
        (asked.http or asked.grpc, f"{_HTTP_PORT}/tcp"),
        (asked.dns, "53/udp"),
        (asked.kafka, "9092/tcp"),
        (asked.sni, "443/tcp"),
    ):
        if given:
            return port
    raise QuestionError("--port is missing, for example --port 80/tcp")


def _port(text: str, destination: Party) -> tuple[int, int]:
    """(protocol, port or ICMP type) of `80/tcp`, `http/tcp` or `8/icmp`."""
    number, _, name = text.lower().partition("/")
    protocol = _PROTOCOLS.get(name or "tcp")
    if protocol is None or not number:
        raise QuestionError(f"--port: expected for example 80/tcp, 53/udp, http/tcp or 8/icmp, not {text!r}")
    highest = 255 if protocol in _ICMP else 65535
    if number.isascii() and number.isdigit() and len(number) <= 5:
        if int(number) > highest:
            raise QuestionError(f"--port: {number} is above {highest}")
        return protocol, int(number)
    ports = destination.endpoint.ports if destination.endpoint is not None else ()
    found = own_ports(PortSpec((protocol,), name=number), ports)
    if not found:
        raise QuestionError(f"--port: {destination.name} has no {protocol.name} port of the name {number!r}")
    return protocol, found[0].first


def _request(asked: Asked, destination: Party, protocol: int, port: int) -> L7Facts | None:
    options = (
        ("--http", asked.http),
        ("--grpc", asked.grpc),
        ("--dns", asked.dns),
        ("--kafka", asked.kafka),
        ("--sni", asked.sni),
    )
    given = [option for option, text in options if text]
    if len(given) > 1:
        raise QuestionError(f"only one of {' and '.join(given)} can be asked about")
    if (asked.headers or asked.host) and not (asked.http or asked.grpc):
        raise QuestionError("-H and --host belong to --http or --grpc")
    if not given:
        return None
    if protocol != Protocol.TCP and not (asked.dns and protocol == Protocol.UDP):
        raise QuestionError(f"{given[0]} needs a TCP port{' or a UDP one' if asked.dns else ''}")
    if asked.dns:
        return _dns(asked.dns)
    if asked.kafka:
        return _kafka(asked.kafka)
    if asked.sni:
        return _sni(asked.sni)
    return _http(asked, destination, port)


def _dns(text: str) -> DnsQuery:
    """`NAME` or `NAME:TYPE`."""
    name, _, kind = text.partition(":")
    if name != "." and (not _DNS_NAME.fullmatch(name) or len(name) > _LONGEST_NAME):
        raise QuestionError(f"--dns: expected NAME or NAME:TYPE, not {text!r}")
    if kind and not _WORD.fullmatch(kind):
        raise QuestionError(f"--dns: {kind!r} is not a type of query, such as A, AAAA or HTTPS")
    return DnsQuery(name, kind.upper() or "A")


def _kafka(text: str) -> KafkaRequest:
    """`produce:TOPIC`, `consume:TOPIC`, or any API key with or without a topic."""
    name, _, topic = text.partition(":")
    key = {"produce": 0, "consume": 1}.get(name.lower(), API_KEYS.get(name.lower()))
    if key is None:
        raise QuestionError(f"--kafka: expected produce:TOPIC, consume:TOPIC or APIKEY[:TOPIC], not {text!r}")
    topics = (topic,) if topic else () if key in WITH_TOPICS else None
    return KafkaRequest(key, topics=topics)


def _sni(text: str) -> ClientHello:
    if not _DNS_NAME.fullmatch(text) or len(text) > _LONGEST_NAME:
        raise QuestionError(f"--sni: {text!r} is not the name of a server")
    return ClientHello(text.lower().removesuffix("."))


def _http(asked: Asked, destination: Party, port: int) -> L7Facts:
    """As the proxy reads it from the wire; what it answers with 400 is no question."""
    headers = list(asked.headers)
    if asked.grpc:
        if not _GRPC_METHOD.fullmatch(asked.grpc.removeprefix("/")):
            raise QuestionError(f"--grpc: expected pkg.Service/Method, not {asked.grpc!r}")
        method, target = "POST", f"/{asked.grpc.removeprefix('/')}"
        if not any(text.lower().startswith("content-type:") for text in headers):
            headers.append("content-type: application/grpc")
    else:
        match = _HTTP.fullmatch(asked.http.strip())
        if match is None:
            raise QuestionError(f"--http: expected 'METHOD PATH', not {asked.http!r}")
        method, target = match.groups()
    if not any(text.lower().startswith("host:") for text in headers):
        headers.insert(0, f"Host: {asked.host or _authority(asked.destination, destination, port)}")
    elif asked.host:
        raise QuestionError("--host and -H 'Host: …' say the same")
    for text in headers:
        if ":" not in text or "\r" in text or "\n" in text:
            raise QuestionError(f"-H: expected 'name: value', not {text!r}")
    head = "\r\n".join([f"{method} {target} HTTP/1.1", *headers, "", ""]).encode("utf-8", "surrogateescape")
    if len(head) > _LIMITS.head_bytes:
        raise QuestionError("the request is too long")
    try:
        return parse_request_untrusted(head, _LIMITS).facts
    except ParseError as error:
        raise QuestionError(f"the proxy would answer {error.status}: {error.reason}") from None


def _authority(text: str, destination: Party, port: int) -> str:
    """What a client would name as its host: the name it was given, with the port where that is not 80."""
    try:
        address = ip_address(text)
        name = f"[{address}]" if isinstance(address, IPv6Address) else str(address)
    except ValueError:
        endpoint = destination.endpoint
        # A pod that was made up of labels has no name.
        name = destination.name if endpoint is None else endpoint.name
        name = name if _DNS_NAME.fullmatch(name) else "host"
    return name if port == _HTTP_PORT else f"{name}:{port}"
