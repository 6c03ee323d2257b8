"""`python -m tests.fuzz TARGET|all`: coverage-guided fuzzing of the parsers with atheris (`make fuzz`)."""

from __future__ import annotations

import argparse
import hashlib
import importlib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAMES = (
    "http1_request",
    "http1_response",
    "http2_request",
    "http2_response",
    "http2_frames",
    "hpack",
    "tls_hello",
    "opening",
    "kafka_request",
    "kafka_answer",
    "dns_query",
    "dns_answer",
    "dns_tcp",
)
"""Of the targets, which must not be imported before the parsers are instrumented."""

CORPUS = Path(__file__).resolve().parents[2] / "build" / "fuzz"
SHOWN_BYTES = 4096
EPILOG = """examples:
  python -m tests.fuzz all                         every target, two minutes each
  python -m tests.fuzz http1_request --seconds 600

Inputs that reach something new are kept in DIR/TARGET and are where the next run goes on; inputs that fail in
DIR/failures. What fails belongs into tests/fuzz/regressions.py."""


@dataclass(frozen=True, slots=True)
class Result:
    target: str
    executions: str
    coverage: str
    corpus: str
    failures: tuple[Path, ...]
    exit_code: int


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description="Fuzz the parsers, guided by coverage.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="TARGET", choices=("all", *NAMES), help=f"all, {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=120, help="for each target (default: 120)")
    parser.add_argument("--corpus", type=Path, default=CORPUS, metavar="DIR", help="default: build/fuzz")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 nothing found, 1 an input failed or a fuzzer did not run, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    if options.child:
        fuzz(options.target, options.seconds, options.corpus)
    names = NAMES if options.target == "all" else (options.target,)
    results = [run(name, options.seconds, options.corpus) for name in names]
    print(f"\n{'target':16} {'executions':>12} {'coverage':>9} {'corpus':>8}  failures")
    for result in results:
        numbers = f"{result.executions:>12} {result.coverage:>9} {result.corpus:>8}"
        print(f"{result.target:16} {numbers}  {len(result.failures)}")
    for result in results:
        for path in result.failures:
            data = path.read_bytes()
            more = f" and {len(data) - SHOWN_BYTES} bytes more" if len(data) > SHOWN_BYTES else ""
            print(f"\n{result.target} fails on {path}:\n{data[:SHOWN_BYTES].hex()}{more}")
    return int(any(result.failures or result.exit_code for result in results))


def run(target: str, seconds: int, corpus: Path) -> Result:
    """One target in a process of its own, which ends with its first failure."""
    failures = corpus / "failures"
    failures.mkdir(parents=True, exist_ok=True)
    before = set(failures.iterdir())
    command = [
        sys.executable,
        "-m",
        "tests.fuzz",
        target,
        "--child",
        "--seconds",
        str(seconds),
        "--corpus",
        str(corpus),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as child:
        assert child.stderr is not None
        lines = []
        for line in child.stderr:
            lines.append(line)
            if not line.startswith(("#", "\tNEW_FUNC", "INFO: Instrumenting")):
                print(line, end="", file=sys.stderr, flush=True)
    log = "".join(lines)
    found = tuple(sorted(set(failures.iterdir()) - before))
    return Result(
        target,
        _last(r"number_of_executed_units: (\d+)", log) or _last(r"^#(\d+)\t", log),
        _last(r" cov: (\d+)", log),
        _last(r" corp: (\d+)", log),
        found,
        child.returncode,
    )


def _last(pattern: str, log: str) -> str:
    found = re.findall(pattern, log, re.MULTILINE)
    return str(found[-1]) if found else ""


def fuzz(target: str, seconds: int, corpus: Path) -> None:
    """Does not come back: libFuzzer ends the process."""
    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["parsers"]):
        targets = importlib.import_module("tests.fuzz.targets")
        seeds = importlib.import_module("tests.fuzz.seeds")
        regressions = importlib.import_module("tests.fuzz.regressions")
    kept, given = corpus / target, corpus / "seeds" / target
    for folder in (kept, given):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds.all_seeds(target):
        (given / hashlib.sha256(seed.data).hexdigest()[:16]).write_bytes(seed.data)
    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-max_len=4096",
        "-print_final_stats=1",
        f"-artifact_prefix={corpus / 'failures'}/{target}-",
        str(kept),
        str(given),
    ]

    def unless_known(data: bytes) -> None:
        try:
            targets.TARGETS[target](data)
        except Exception as error:
            if not regressions.is_known(target, error):
                raise

    atheris.Setup(arguments, unless_known)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
