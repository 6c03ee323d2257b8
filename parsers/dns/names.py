"""Compressed names of one message (RFC 1035 §4.1.4), each place unpacked at most once.

A pointer must lead to before the run of labels that it ends. So there are no loops, and no run is walked twice: what
the names of a message cost is bounded by its length, whatever points where.
"""

from __future__ import annotations

from parsers.dns.message import HEADER, MAX_LABEL, MAX_NAME, POINTER, DnsError, text_of


class Names:
    """Names are bytes as they would be uncompressed, in lower case: lengths are below any letter."""

    __slots__ = ("_data", "_known")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._known: dict[int, bytes] = {}
        """By the position that they begin at."""

    def note(self, at: int, name: bytes) -> None:
        """This is known to be there."""
        self._known[at] = name

    def read(self, at: int) -> tuple[bytes, int]:
        """(the name that begins at `at`, the position behind it). Raises `DnsError`, or IndexError: it is cut off."""
        data, start = self._data, at
        length = data[at]
        while 0 < length <= MAX_LABEL:
            at += length + 1
            length = data[at]
        if not length:
            at += 1
            name = data[start:at].lower()
        elif length < POINTER:
            raise DnsError("a name has a label of no known form", None)
        else:
            target = (length & 0x3F) << 8 | data[at + 1]
            _check(target, start)
            name = self._known.get(target) or self._unpack(target)
            if at == start:
                return name, at + 2
            name = data[start:at].lower() + name
            at += 2
        if len(name) > MAX_NAME:
            raise DnsError("a name is too long", None)
        self._known[start] = name
        return name, at

    def _unpack(self, at: int) -> bytes:
        """The name that something points to."""
        data, known, start = self._data, self._known, at
        passed: list[tuple[int, int]] = []
        while True:
            name = known.get(at, b"")
            if name:
                break
            length = data[at]
            if not length:
                name = b"\0"
                break
            if length <= MAX_LABEL:
                passed.append((at, at + 1 + length))
                at += 1 + length
            elif length < POINTER:
                raise DnsError("a name has a label of no known form", None)
            else:
                target = (length & 0x3F) << 8 | data[at + 1]
                _check(target, start)
                passed.append((at, at))
                at = start = target
        for begin, end in reversed(passed):
            name = data[begin:end].lower() + name
            if len(name) > MAX_NAME:
                raise DnsError("a name is too long", None)
            known[begin] = name
        return name


def _check(target: int, start: int) -> None:
    if not HEADER <= target < start:
        raise DnsError("a name points to where no earlier name is", None)


def text(name: bytes) -> str:
    """As of `Query.facts`."""
    labels = []
    at = 0
    while name[at]:
        labels.append(name[at + 1 : at + 1 + name[at]])
        at += 1 + name[at]
    return text_of(labels)
