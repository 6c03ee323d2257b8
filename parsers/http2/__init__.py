"""HTTP/2 (RFC 9113) and gRPC: a filter that lets frames pass as they came and judges every stream.

One client connection has one server connection, so stream ids and flow control stay end to end. What is decided
and answered here never reaches the server.

    client ──▶ requests.py  frames of the client: judged, passed, rewritten, or kept from the server
           ◀── responses.py frames of the server: checked, and passed

frames.py     frames, error codes, and how to build them
hpack.py      header compression (RFC 7541): a decoder, and an encoder that never needs a table
fields.py     header blocks: what makes one malformed, pseudo-header fields, a request as rules see it
reader.py     frames out of bytes, for both directions
blocks.py     HEADERS with their CONTINUATIONs, until a block is whole
settings.py   SETTINGS as they go on: with the bounds that we impose
judged.py     a request's block with its ruling
streams.py    which streams there are, and what became of those that ended
budget.py     how much of what costs without carrying anything a client may send
conversation.py  what both directions share
refusal.py    the answers that we give in the server's place; gRPC gets a status of its own
filter.py     one connection
"""
