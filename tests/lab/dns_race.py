"""Looks up names nobody has asked for yet, and connects to each at once: `python -m tests.lab.dns_race SERVER`.

A connection that is made and one that is reset are both fine: the packet has got there. Prints one JSON object with the
times of the lookups, the names that got no address, and those whose connection nothing came back of.
"""

from __future__ import annotations

import argparse
import json
import socket
import time

from proxy.lab.lookup import lookup, question
from tests.lab.dns_servers import fresh

WAIT_S = 0.9
"""Shorter than it takes the kernel to send the first packet again: that must not heal the loss of one."""


def reaches(address: str, port: int, family: socket.AddressFamily) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(WAIT_S)
        try:
            connection.connect((address, port))
        except TimeoutError:
            return False
        except ConnectionRefusedError:
            pass
        return True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--ip", type=int, choices=(4, 6), default=4)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--port", type=int, default=81)
    options = parser.parse_args()
    family = socket.AF_INET6 if options.ip == 6 else socket.AF_INET
    kind = "AAAA" if options.ip == 6 else "A"
    took, unanswered, dropped = [], [], []
    for number in range(options.count):
        name, address = fresh(number, options.ip)
        asked = question(name, kind)
        start = time.perf_counter()
        found = lookup(options.server, asked, 5.0, tcp=options.tcp)
        took.append(1e6 * (time.perf_counter() - start))
        if found.addresses != (address,):
            unanswered.append(f"{name}: {found.outcome}")
        elif not reaches(address, options.port, family):
            dropped.append(name)
    took.sort()
    told = {"p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100]}
    print(json.dumps({"count": options.count, **told, "unanswered": unanswered[:20], "dropped": dropped[:20]}))


if __name__ == "__main__":
    main()
