"""The one exception of the parsers."""

from __future__ import annotations


class ParseError(Exception):
    """Bytes that are not in the one form we accept.

    `reason` is a sentence for logs and flow records; `status` is the HTTP status to answer with, where the
    protocol has one (400, 414, 417, 431, 501, 505 towards a client, 502 for a server's bytes). `limit` names the
    bound of `parsers.limits` that was reached, if it was one: what bites is counted.
    """

    def __init__(self, reason: str, status: int = 400, *, limit: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.limit = limit
