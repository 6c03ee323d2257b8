"""Changes that rules make to the headers of a request that they permit, in its bytes.

They are made in the head that would go on otherwise, line by line, so that every other line stays as it came. Lines
that frame or route the message are out of reach whatever the edits say: the body was measured by them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from parsers.facts import HeaderEdit, edited_fields


def edited_head(head: bytes, edits: Iterable[HeaderEdit]) -> bytes:
    """`head`: a whole head as it would be forwarded. The edits are made in their order."""
    start, *lines = head.removesuffix(b"\r\n").splitlines(keepends=True)
    fields = [(line.partition(b":")[0].lower(), line) for line in lines]
    written = (replace(edit, value=b"%b: %b\r\n" % (edit.name, edit.value)) for edit in edits)
    return b"".join((start, *(line for _, line in edited_fields(fields, written)), b"\r\n"))
