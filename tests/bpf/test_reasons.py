"""Reasons: Cilium's numbers, and the same ones in the C header."""

from __future__ import annotations

import re

import pytest

from bpf import build
from bpf.reasons import DropReason, reason_help, reason_name, reason_text


def test_the_header_has_the_same_numbers() -> None:
    header = (build.HERE / "include" / "penstock.h").read_text()
    enum = header.split("enum drop_reason")[1].split("};")[0]
    assert {int(number) for number in re.findall(r"DROP_\w+ = (\d+)", enum)} == {int(r) for r in DropReason}


@pytest.mark.parametrize(
    ("number", "name", "text"),
    [
        (132, "INVALID_SOURCE_IP", "Invalid source ip"),
        (133, "POLICY_DENIED", "Policy denied"),
        (181, "POLICY_DENY", "Policy denied by denylist"),
        (178, "SOCKET_LOOKUP_FAILED", "Socket lookup failed"),
    ],
)
def test_names_are_those_of_cilium(number: int, name: str, text: str) -> None:
    assert (reason_name(number), reason_text(number)) == (name, text)


def test_every_reason_is_explained() -> None:
    assert all(reason_text(r) and reason_help(r) for r in DropReason)


def test_an_unknown_number_stays_readable() -> None:
    assert reason_name(199) == "DROP_REASON_199"
    assert reason_text(199) == "Unknown reason 199"
    assert reason_help(199) == ""
