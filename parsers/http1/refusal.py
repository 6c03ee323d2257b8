"""The answers that a filter gives in the server's place."""

from __future__ import annotations

from http import HTTPStatus


def refusal_response(status: int, body: bytes, *, is_head: bool, close: bool, told: bytes = b"") -> bytes:
    """A whole response with a text body (left out for HEAD, its length told all the same: RFC 9110 §9.3.2).

    `told` is the value of a header that says why, if anybody wants to know.
    """
    lines = [
        b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode()),
        b"content-length: %d\r\n" % len(body),
        b"content-type: text/plain\r\n",
    ]
    if told:
        lines.append(b"x-denied-by: %b\r\n" % told)
    if close:
        lines.append(b"connection: close\r\n")
    lines.append(b"\r\n")
    if not is_head:
        lines.append(body)
    return b"".join(lines)


def error_response(status: int, *, is_head: bool = False) -> bytes:
    """The last answer of a connection. Why is for the flow record, not for whoever sent the bytes."""
    body = HTTPStatus(status).phrase.encode() + b"\r\n"
    return refusal_response(status, body, is_head=is_head, close=True)
