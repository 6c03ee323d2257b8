"""Looks up names nobody has asked for yet, and connects to each at once: `python -m tests.lab.dns_race SERVER`.

A connection that is made and one that is reset are both fine: the packet has got there. Prints one JSON object with the
times of the lookups, the names that got no address, and those whose connection nothing came back of.
"""

from __future__ import annotations

import argparse
import json
import time

from proxy.lab.lookup import lookup, question
from tests.lab.dns_clients import reaches
from tests.lab.dns_servers import fresh


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--ip", type=int, choices=(4, 6), default=4)
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--port", type=int, default=81)
    options = parser.parse_args()
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
        elif not reaches(address, options.port):
            dropped.append(name)
    took.sort()
    told = {"p50_us": took[len(took) // 2], "p99_us": took[len(took) * 99 // 100]}
    print(json.dumps({"count": options.count, **told, "unanswered": unanswered[:20], "dropped": dropped[:20]}))


if __name__ == "__main__":
    main()
