"""What HTTP/1 and HTTP/2 share.

target.py     request target and authority: one canonical form, or a refusal
judging.py    rulings, judged requests, exchanges: what filters and judge tell each other
websocket.py  the handshake that both ends of a WebSocket have to prove
"""
