"""What may be asked for where only DNS names have opened the way."""

from __future__ import annotations

import pytest

from config.policy.name_binding import BOUND_KINDS, MAX_TOLD, host_name, wrong_name
from config.policy.resolved import FqdnPeer
from config.settings import Settings
from parsers.facts import ClientHello, HttpRequest

ALLOWED = FqdnPeer("allowed.cdn.test")
WILD = FqdnPeer(pattern="*.wild.test")
DEEP = FqdnPeer(pattern="**.deep.test")
ANY = FqdnPeer(pattern="*")
NAMES = frozenset((ALLOWED, WILD, DEEP))


def request(host: str) -> HttpRequest:
    return HttpRequest(b"GET", b"/", host.encode("latin-1"))


@pytest.mark.parametrize(
    "name",
    ["allowed.cdn.test", "ALLOWED.Cdn.Test", "allowed.cdn.test.", "a.wild.test", "a-1_b.WILD.test", "a.b.c.deep.test"],
)
def test_names_that_may_be_asked_for(name: str) -> None:
    assert wrong_name(NAMES, ClientHello(name)) == ""
    assert wrong_name(NAMES, request(name)) == ""
    assert wrong_name(NAMES, request(f"{name}:8080")) == ""


@pytest.mark.parametrize(
    "name",
    [
        "neighbour.cdn.test",
        "cdn.test",
        "x.allowed.cdn.test",
        "allowed.cdn.test.evil.org",
        "allowedXcdn.test",
        "allowed.cdn.test..",
        ".allowed.cdn.test",
        "wild.test",
        "a.b.wild.test",
        "deep.test",
        "192.0.2.1",
    ],
)
def test_names_that_may_not(name: str) -> None:
    shown = "toFQDNs **.deep.test, *.wild.test, allowed.cdn.test"
    said = f'server name "{name}" is none of the names that opened this address ({shown})'
    assert wrong_name(NAMES, ClientHello(name)) == said
    if name.isascii():
        said = f'host "{name}" is none of the names that opened this address ({shown})'
        assert wrong_name(NAMES, request(name)) == wrong_name(NAMES, request(f"{name}:443")) == said


@pytest.mark.parametrize("wanted", [NAMES, frozenset((ANY,)), frozenset[FqdnPeer]()])
def test_who_asks_for_no_name_asks_for_a_wrong_one(wanted: frozenset[FqdnPeer]) -> None:
    for asked in (ClientHello(""), ClientHello("."), request(""), request(":80"), request(".")):
        assert wrong_name(wanted, asked)


def test_any_name_is_still_a_name() -> None:
    wanted = frozenset((ANY,))
    assert wrong_name(wanted, ClientHello("a.b.example")) == ""
    assert wrong_name(wanted, request("a.b.example:81")) == ""
    assert wrong_name(wanted, request("[2001:db8::1]:80"))
    assert wrong_name(wanted, ClientHello("b\u00fccher.test"))


def test_letters_whose_lower_case_is_ascii_are_no_ascii() -> None:
    assert wrong_name(frozenset((FqdnPeer("k.test"),)), ClientHello("\u212a.test"))


def test_only_some_names_are_told() -> None:
    many = frozenset(FqdnPeer(f"{number}.test") for number in range(10))
    assert wrong_name(many, ClientHello("a")).endswith("(toFQDNs 0.test, 1.test, 2.test, ...)")
    assert wrong_name(frozenset(list(many)[:MAX_TOLD]), ClientHello("a")).count("...") == 0


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a.test", "a.test"),
        ("a.test:80", "a.test"),
        ("a.test:", "a.test:"),
        ("a.test:x", "a.test:x"),
        ("a.test:80:81", "a.test:80"),
        ("80", "80"),
        ("[2001:db8::1]", "[2001:db8::1]"),
        ("[2001:db8::1]:443", "[2001:db8::1]"),
        ("192.0.2.1:80", "192.0.2.1"),
        ("", ""),
    ],
)
def test_hosts_without_their_ports(host: str, name: str) -> None:
    assert host_name(request(host)) == name


def test_there_is_a_meaning_for_each_setting() -> None:
    annotation = Settings.model_fields["tofqdns_bind_names"].annotation
    assert set(annotation.__args__) == set(BOUND_KINDS)  # type: ignore[union-attr]
