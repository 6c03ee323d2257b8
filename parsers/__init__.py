"""Sans-io protocol filters: bytes in, bytes and facts out. No clock, no socket, no logger, no policy.

One connection is one filter object. It is fed the bytes that each side sent and returns the bytes that the
other side may see; what policy must decide is put to a judge, synchronously, and a refusal is answered by the
filter itself, in protocol order, behind the answers that earlier requests still owe.

Three outcomes and no others, whatever the bytes are:

* forwarded: as they came where they are already in the one canonical form that was judged, rebuilt otherwise;
* refused: an answer for the client, nothing for the server;
* ended: the filter says so (`End`), because the bytes do not parse or the connection is over.

Decoders of hostile bytes raise only `ParseError`; any other exception out of a parser is a bug.
"""
