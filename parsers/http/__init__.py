"""What HTTP/1 and HTTP/2 share.

target.py     request target and authority: one canonical form, or a refusal
opening.py    which HTTP a connection speaks
overrides.py  headers that make servers act on another request than the judged one
judging.py    rulings, judged requests, exchanges: what filters and judge tell each other
websocket.py  the handshake that both ends of a WebSocket have to prove
"""
