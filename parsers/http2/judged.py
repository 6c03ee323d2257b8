"""A request's header block with its ruling, and the blocks that go on in its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from parsers.facts import HeaderEdit, HttpRequest, edited_fields
from parsers.http.judging import Judged, Ruling
from parsers.http2.fields import RequestFields
from parsers.http2.hpack import Field, encode

VERSION = "HTTP/2"


class JudgedBlock(Judged):
    """`rebuilt`: what must go on instead of the block as it came, or None. `length`: the body's, -1 if not named."""

    __slots__ = ("_fields", "_plain", "is_grpc", "length", "rebuilt")

    def __init__(self, request: RequestFields, fields: Sequence[Field], ruling: Ruling) -> None:
        super().__init__(request.facts, VERSION, ruling)
        self.length = request.length
        self.is_grpc = request.is_grpc
        self._fields = fields if request.canonical is None else request.canonical
        if ruling.edits:
            self._fields = _edited(self._fields, ruling.edits)
        self._plain: bytes | None = None
        self.rebuilt = None if self._fields is fields else self.without_table()

    def without_table(self) -> bytes:
        """The same list in a block that does not refer to what was sent before."""
        if self._plain is None:
            self._plain = encode(self._fields)
        return self._plain


class RefusedRequest(Judged):
    """A request that no rule may see."""

    __slots__ = ("is_grpc", "length")

    def __init__(self, facts: HttpRequest, ruling: Ruling, *, is_grpc: bool) -> None:
        super().__init__(facts, VERSION, ruling)
        self.length = -1
        self.is_grpc = is_grpc


def _edited(fields: Sequence[Field], edits: Iterable[HeaderEdit]) -> list[Field]:
    """Edits go behind the pseudo-header fields, and into no table: what they put in may be secret."""
    pseudo = [field for field in fields if field.name.startswith(b":")]
    regular = [(field.name, field.value) for field in fields if not field.name.startswith(b":")]
    hidden = {(field.name, field.value) for field in fields if field.never_indexed}
    hidden |= {(edit.name, edit.value) for edit in edits}
    lowered = (replace(edit, name=edit.name.lower()) for edit in edits)
    return pseudo + [Field(name, value, (name, value) in hidden) for name, value in edited_fields(regular, lowered)]
