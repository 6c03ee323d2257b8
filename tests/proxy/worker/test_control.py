"""The control channel's framing."""

from __future__ import annotations

import pytest

from proxy.worker.control import Deframer, Kind, frame


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_messages_in_any_split(step: int) -> None:
    stream = frame(Kind.BATCH, b"abc") + frame(Kind.DRAIN) + frame(Kind.APPLIED, bytes(8))
    deframer = Deframer()
    seen = [m for at in range(0, len(stream), step) for m in deframer.feed(stream[at : at + step])]
    assert seen == [(Kind.BATCH, b"abc"), (Kind.DRAIN, b""), (Kind.APPLIED, bytes(8))]


def test_too_long_and_unknown_messages() -> None:
    with pytest.raises(ValueError, match="11 bytes"):
        list(Deframer(10).feed(frame(Kind.BATCH, bytes(11))))
    with pytest.raises(ValueError, match="99"):
        list(Deframer().feed(b"\0\0\0\0\x63"))
