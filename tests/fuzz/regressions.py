"""Inputs that a fuzzer found, each with what was wrong about them."""

from __future__ import annotations

from typing import NamedTuple


class Regression(NamedTuple):
    """`open_as`: words of the failure, as long as it has not been mended."""

    target: str
    data: bytes
    reason: str
    open_as: str = ""


REGRESSIONS = (
    Regression(
        "opening",
        bytes.fromhex("00010100") + b"\x16GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "first bytes of TLS end the connection, and what comes then is taken for HTTP",
    ),
    Regression(
        "http1_request",
        b"\1\1\1\1GET /" + b"q" * 96 + b" HTTP/1.1\r\n",
        "a request line that is too long is waited for when it comes at once, and refused when it comes in pieces",
    ),
    Regression(
        "kafka_request",
        bytes.fromhex("04010710 00000048 0000000d 00000001 00026d65 00 0000 00000000 0002")
        + bytes.fromhex("05007500700002 6d65 00026700 00000212 61020000 00002912")
        + bytes(40),
        "records in pieces have the server asked about their topic, and at once they are seen to make no sense",
    ),
)


def is_known(target: str, error: BaseException) -> bool:
    """Is it what a regression that has not been mended fails with?"""
    return any(it.target == target and it.open_as and it.open_as in str(error) for it in REGRESSIONS)
