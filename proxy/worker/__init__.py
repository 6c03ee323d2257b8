"""A worker: one process, one event loop, its own listeners. It reads hostile bytes and decides by snapshot.

    main.py        the process: arguments, event loop, control channel, drain
    control.py     framed messages between agent and worker
    connection.py  one redirected connection: client side, server side, back-pressure, ends
    upstream.py    the socket towards the server, with the client's own address
    judges.py      snapshot + connection facts -> the judge of its requests
    floods.py      clients that flood get no new connections for a while
    reports.py     exchanges and failures -> batches for the agent

A worker has no policy files, no map it could write, and no say in what is redirected to it. When the agent is gone
the worker ends, and the kernel refuses what would have been redirected.
"""
