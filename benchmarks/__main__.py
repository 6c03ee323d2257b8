"""`python -m benchmarks [NAME…]`: run benchmarks, print their tables, write benchmarks/out/NAME.json."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from benchmarks.catalog import CATALOG
from benchmarks.failure import BenchmarkError
from proxy.lab import LabError

EPILOG = """examples:
  python -m benchmarks                  every benchmark
  python -m benchmarks http1            one of them
  python -m benchmarks http1 --quick    a first impression
  python -m benchmarks --list           what there is

Each prints a table and writes benchmarks/out/NAME.json. It needs root (network namespaces, eBPF) and the programs
that `make bench` installs. benchmarks/README.md explains method and figures."""
INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Penstock side by side with its peers.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (default: all)")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("--quick", action="store_true", help="one short round: an impression, not a result")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, 1 a benchmark failed, 2 wrong usage, 130 interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.list:
        for benchmark in CATALOG:
            print(f"{benchmark.name:16} {benchmark.summary}")
        return 0
    known = {benchmark.name: benchmark for benchmark in CATALOG}
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there is {', '.join(known)}")
    if os.geteuid() != 0:
        print("benchmarks need root: they make network namespaces and load eBPF programs", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        for name in dict.fromkeys(options.names or known):
            print(f"{name}: {known[name].summary}\n")
            report = known[name].run(options.quick)
            print(report.text())
            print(f"\n  written: {os.path.relpath(report.write())}\n", flush=True)
    except (BenchmarkError, LabError) as error:
        print(f"benchmark failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been ended", file=sys.stderr)
        return INTERRUPTED
    return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Termination is interruption: it goes through the same cleaning up."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
