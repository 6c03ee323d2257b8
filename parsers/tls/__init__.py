"""The beginning of a TLS connection (RFC 8446, RFC 6066): the server name is read, nothing is decrypted.

client_hello.py   the hello in its records: strict parse as the bytes arrive, and its bounds
filter.py         one connection: held until its hello is judged, then passed on unread
"""
