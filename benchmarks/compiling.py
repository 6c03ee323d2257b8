"""`python -m benchmarks.compiling FOLDER CHANGES`: compiles a folder of policies once and prints the figures as JSON.

A process of its own for each size, so that its memory is that of this size. Times are wall-clock.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path
from statistics import median

from config.endpoints import load_endpoints
from config.policy.load import load_file
from config.policy.references import References
from config.policy.resolve import Resolver
from config.settings import Settings
from config.store import PolicyStore

MIB_KIB = 1024


def measure(folder: Path, changes: int) -> dict[str, float]:
    """`folder` holds `policies/` and `endpoints.yaml`."""
    # As the agent does it.
    gc.set_threshold(50_000, 20, 100)
    empty_mib = _rss_mib()
    started = time.perf_counter()
    files = [load_file(path) for path in sorted((folder / "policies").iterdir())]
    read = time.perf_counter()
    endpoints = load_endpoints(folder / "endpoints.yaml")
    known = time.perf_counter()
    documents = [document for file in files for document in file.documents]
    Resolver(Settings()).update(documents, endpoints, References(), 1)
    compiled = time.perf_counter()
    memory_mib = _rss_mib() - empty_mib
    del files, documents, endpoints
    return {
        "read_ms": (read - started) * 1e3,
        "endpoints_ms": (known - read) * 1e3,
        "compile_ms": (compiled - known) * 1e3,
        "total_ms": (compiled - started) * 1e3,
        "memory_mib": memory_mib,
        **_change(folder, changes),
    }


def _change(folder: Path, changes: int) -> dict[str, float]:
    """One policy of many changes, as the agent's store sees it."""
    store = PolicyStore(Settings(policy_dir=folder / "policies", endpoints_file=folder / "endpoints.yaml"))
    store.refresh()
    path = folder / "policies" / "p00001.yaml"
    text = path.read_text(encoding="utf-8")
    assert '"t1"' in text
    times = []
    for number in range(changes):
        path.write_text(text.replace('"t1"', f'"t{number % 2 * 2}"'), encoding="utf-8")
        started = time.perf_counter()
        refresh = store.refresh(frozenset((path,)))
        times.append((time.perf_counter() - started) * 1e3)
        assert refresh.snapshot is not None
    path.write_text(text, encoding="utf-8")
    return {"one_change_ms": median(times), "one_change_max_ms": max(times)}


def _rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MIB_KIB


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
