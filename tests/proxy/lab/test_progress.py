"""One line per step, for people and for logs."""

from __future__ import annotations

import io

import pytest

from proxy.lab.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_have_no_times() -> None:
    stream = io.StringIO()
    with Progress(stream).step("links"):
        pass
    assert stream.getvalue() == "  links\n"


def test_a_terminal_sees_times() -> None:
    stream = Terminal()
    with Progress(stream).step("links"):
        assert stream.getvalue() == "  … links"
    assert "links \x1b[2m0.0 s" in stream.getvalue()


def test_failures_are_told() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="x"), Progress(stream).step("links"):
        raise ValueError("x")
    assert stream.getvalue() == "  failed: links\n"


def test_quiet_is_quiet() -> None:
    stream = Terminal()
    told = Progress(stream, quiet=True)
    told.note("x")
    with told.step("links"):
        pass
    assert stream.getvalue() == ""
