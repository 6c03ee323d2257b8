"""Inputs that a fuzzer found, each with what was wrong about them."""

from __future__ import annotations

from typing import NamedTuple


class Regression(NamedTuple):
    """`is_open`: it is still wrong."""

    target: str
    data: bytes
    reason: str
    is_open: bool = False


REGRESSIONS: tuple[Regression, ...] = ()
