"""The kernel's half: programs that decide on identity, port and protocol, and the tables they decide by.

    penstock.bpf.c, lib/*.h, include/penstock.h      what runs in the kernel
    build.py -> loader.py -> attach.py, node.py      how it gets there: compile, load and pin, attach, routing
    translation.py                                   beside a node that translates addresses: nftables
    tables.py, maps.py, structs.py                   policy as maps; structs.py is compared with the object at load
    events.py, connections.py                        what the kernel tells: packets, redirected connections
    pinned.py                                        the maps as they are pinned, for whoever wants to look
    model.py, frames.py                              the same verdicts in Python: oracle of the tests

Knows no policy language, no HTTP, no flow records. proxy/datapath/ is the only user outside.
Needs Linux 5.12 (global functions with pointers; the newest helper, bpf_ktime_get_coarse_ns, is of 5.11).
"""
