"""What the clients in Python have in common: cases by name, each with a deadline, each ending in one line of JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping

ALLOWED, FORBIDDEN = "t1", "secret"
DEADLINE_S = 25.0
"""For one case."""
_PATIENCE_S = 6.0
IMPOSSIBLE = "-"
"""The client has no such thing."""

Case = Callable[[], str]


def attempt(work: Callable[[], object], name: Callable[[BaseException], str]) -> str:
    """ "ok", or the name of the error."""
    try:
        work()
    except Exception as error:
        return name(error)
    return "ok"


def outcome(case: Case, name: Callable[[BaseException], str]) -> str:
    """Of one case in a thread of its own: a client that hangs is left behind."""
    found = ["timeout"]

    def work() -> None:
        try:
            found[0] = case()
        except Exception as error:
            found[0] = name(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    return found[0]


def run(cases: Mapping[str, Case], name: Callable[[BaseException], str]) -> None:
    """The cases named on the command line, behind the bootstrap address and the client's own name."""
    for wanted in sys.argv[3:]:
        result = outcome(cases[wanted], name) if wanted in cases else IMPOSSIBLE
        print(json.dumps({"case": wanted, "outcome": result}), flush=True)
    sys.stderr.flush()
    os._exit(0)


def patience_s(topics: Iterable[str]) -> float:
    """How long consumers wait for records of these: longer for those that should come."""
    return _PATIENCE_S * (2 if ALLOWED in topics else 1)


def visible(topics: Iterable[str]) -> str:
    """Without the broker's own, and those that others make and delete meanwhile."""
    return ", ".join(sorted(topic for topic in topics if not topic.startswith(("__", "new-"))))


def bootstrap() -> str:
    return sys.argv[1]


def unique() -> str:
    """A name that no other run has: for groups, transactions and topics."""
    return sys.argv[2]
