"""HTTP/1.0 and HTTP/1.1 (RFC 9110, RFC 9112): a strict filter for requests and responses.

grammar.py    tokens, start lines and header fields as regular expressions over whole heads
request.py    a request head: strict parse, framing, the bytes to forward
edits.py      changes that rules make to the headers of a head that goes on
plain.py      request heads that one look is enough for
response.py   a response head: strict parse and framing
chunked.py    chunked bodies as they stream by
refusal.py    the answers that we give in the server's place
heads.py      collects a head that arrives in pieces
judging.py    judged heads and the memo that keeps them
filter.py     one connection: both directions, order of answers, memo of heads
"""
