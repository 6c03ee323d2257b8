"""Options as text → questions, with requests in the form in which the proxy judges them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from config.policy.explain import World
from config.policy.resolved import Protocol
from parsers.facts import HttpRequest
from proxy.questions import Asked, QuestionError, names_of, question
from tests.config.policy.builders import snapshot_of

ASKED = Asked(source="foo", destination="a", port="80/tcp")


@pytest.fixture(scope="module")
def world() -> World:
    return World(snapshot_of(), ())


@pytest.mark.parametrize(
    ("text", "protocol", "port"),
    [
        ("80", Protocol.TCP, 80),
        ("80/tcp", Protocol.TCP, 80),
        ("80/TCP", Protocol.TCP, 80),
        ("53/udp", Protocol.UDP, 53),
        ("5000/sctp", Protocol.SCTP, 5000),
        ("8/icmp", Protocol.ICMP, 8),
        ("128/icmpv6", Protocol.ICMPV6, 128),
        ("0/tcp", Protocol.TCP, 0),
        ("65535/tcp", Protocol.TCP, 65535),
        ("http/tcp", Protocol.TCP, 80),
        ("dns/udp", Protocol.UDP, 53),
    ],
)
def test_ports(world: World, text: str, protocol: int, port: int) -> None:
    asked = question(replace(ASKED, port=text), world)
    assert (asked.protocol, asked.port) == (protocol, port)
    assert asked.request is None


@pytest.mark.parametrize(
    ("asked", "method", "path", "host"),
    [
        (Asked("foo", "a", "80", http="GET /x"), b"GET", b"/x", b"a"),
        (Asked("foo", "a", http="GET /x"), b"GET", b"/x", b"a"),
        (Asked("foo", "a", "80", http="GET /a/../%41//b?q=/../"), b"GET", b"/A/b?q=/../", b"a"),
        (Asked("foo", "a", "8080", http="GET /x"), b"GET", b"/x", b"a:8080"),
        (Asked("foo", "a", "80", http="GET /x", host="api.example"), b"GET", b"/x", b"api.example"),
        (Asked("foo", "a", "80", http="GET /x", headers=("HOST: api.example",)), b"GET", b"/x", b"api.example"),
        (Asked("foo", "a", "80", http="GET http://other/x"), b"GET", b"/x", b"other"),
        (Asked("foo", "192.0.2.1", "80", http="GET /"), b"GET", b"/", b"192.0.2.1"),
        (Asked("foo", "2001:db8::1", "80", http="GET /"), b"GET", b"/", b"[2001:db8::1]"),
        (Asked("foo", "fd09::1", "81", http="GET /"), b"GET", b"/", b"[fd09::1]:81"),
        (Asked("foo", "x.example", "80", http="GET /", names=("X.example=192.0.2.1",)), b"GET", b"/", b"x.example"),
        (Asked("foo", "a", "80", grpc="shop.v1.Cart/Get"), b"POST", b"/shop.v1.Cart/Get", b"a"),
        (Asked("foo", "a", "80", grpc="/Cart/Get"), b"POST", b"/Cart/Get", b"a"),
    ],
)
def test_requests(world: World, asked: Asked, method: bytes, path: bytes, host: bytes) -> None:
    request = question(asked, world).request
    assert isinstance(request, HttpRequest)
    assert (request.method, request.path, request.host) == (method, path, host)


def test_headers_are_what_the_proxy_forwards(world: World) -> None:
    asked = replace(ASKED, http="GET /", headers=("X-Token:  1 ", "X-Original-URL: /admin"))
    request = question(asked, world).request
    assert isinstance(request, HttpRequest)
    assert request.headers == ((b"host", b"a"), (b"x-token", b"1"))
    request = question(replace(ASKED, grpc="A/B"), world).request
    assert isinstance(request, HttpRequest)
    assert (b"content-type", b"application/grpc") in request.headers


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": ""}, "--port is missing"),
        ({"port": "x/tcp"}, "--port: default/a has no TCP port of the name 'x'"),
        ({"port": "http/udp"}, "has no UDP port of the name 'http'"),
        ({"port": "80/gre"}, "--port: expected"),
        ({"port": "/tcp"}, "--port: expected"),
        ({"port": "65536"}, "--port: 65536 is above 65535"),
        ({"port": "256/icmp"}, "--port: 256 is above 255"),
        ({"port": "٣/tcp"}, "no TCP port of the name"),
        ({"port": "-1"}, "no TCP port of the name"),
        ({"source": "nobody"}, "--from: there is no pod nobody"),
        ({"destination": "x.example"}, "--to: the address of x.example is not known"),
        ({"http": "GET"}, "--http: expected 'METHOD PATH'"),
        ({"http": "GET /a b"}, "--http: expected 'METHOD PATH'"),
        ({"http": "GET /%2F"}, "the proxy would answer 400: the path has an encoded slash"),
        ({"http": "GET x"}, "the proxy would answer 400"),
        ({"http": "CONNECT a"}, "the proxy would answer 400: the target of CONNECT is not host:port"),
        ({"http": "G\x00T /"}, "the proxy would answer 400"),
        ({"http": "GET /", "headers": ("x",)}, "-H: expected 'name: value'"),
        ({"http": "GET /", "headers": ("x: 1\r\ny: 2",)}, "-H: expected 'name: value'"),
        ({"http": "GET /", "headers": ("x y: 1",)}, "the proxy would answer 400"),
        ({"http": "GET /", "headers": ("Host: x", "Host: y")}, "the proxy would answer 400"),
        ({"http": "GET /", "headers": ("Host: x",), "host": "y"}, "say the same"),
        ({"http": "GET /", "headers": tuple(f"h{n}: 1" for n in range(101))}, "the proxy would answer 431"),
        ({"http": f"GET /{'x' * 70_000}"}, "the request is too long"),
        ({"http": "GET /", "host": "a b"}, "the proxy would answer 400"),
        ({"http": "GET /", "port": "80/udp"}, "--http needs a TCP port"),
        ({"grpc": "Cart"}, "--grpc: expected pkg.Service/Method"),
        ({"grpc": "a/b/c"}, "--grpc: expected pkg.Service/Method"),
        ({"grpc": "A/B", "http": "GET /"}, "only one of --http and --grpc"),
        ({"headers": ("x: 1",)}, "belong to --http or --grpc"),
        ({"host": "x"}, "belong to --http or --grpc"),
        ({"names": ("x",)}, "--name: expected NAME=IP"),
        ({"names": ("x.example=y",)}, "--name: 'y' is not an IP address"),
        ({"names": (" =192.0.2.1",)}, "--name: expected NAME=IP"),
    ],
)
def test_what_makes_no_sense(world: World, changes: dict[str, object], message: str) -> None:
    with pytest.raises(QuestionError) as refused:
        question(Asked(**{"source": "foo", "destination": "a", "port": "80/tcp"} | changes), world)  # type: ignore[arg-type]
    assert message in str(refused.value)


def test_names_may_have_several_addresses() -> None:
    found = names_of(("A.example.=192.0.2.1", "a.example=2001:db8::1", "b=192.0.2.2"))
    assert {name: [str(address) for address in found[name]] for name in found} == {
        "a.example": ["192.0.2.1", "2001:db8::1"],
        "b": ["192.0.2.2"],
    }
