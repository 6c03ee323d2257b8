"""kcat: `python -m tests.acceptance.kafka.kcat_client BOOTSTRAP NAME CASE…`. What it complains of counts."""

from __future__ import annotations

import re
import subprocess

from tests.acceptance.kafka.outcomes import ALLOWED, FORBIDDEN, Case, bootstrap, run, unique, visible

WAIT_S = 12
_NOTED = [
    "Topic authorization failed",
    "Transactional Id authorization failed",
    "Group authorization failed",
    "Cluster authorization failed",
    "Unknown topic",
    "Unknown partition",
    "Message timed out",
    "timed out",
    "transport failure",
    "Disconnected",
]


def kcat(*arguments: str, said: str = "") -> tuple[str, str]:
    """Output and standard error; what it has said when the time is over."""
    command = ["kcat", "-b", bootstrap(), "-X", "allow.auto.create.topics=false", *arguments]
    try:
        done = subprocess.run(command, input=said, capture_output=True, text=True, timeout=WAIT_S, check=False)
    except subprocess.TimeoutExpired as late:
        return _text(late.stdout), _text(late.stderr) + "kcat did not end"
    return done.stdout, done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


def _text(data: bytes | str | None) -> str:
    return data.decode() if isinstance(data, bytes) else data or ""


def told(stderr: str) -> str:
    """The first of the errors that are known, and the exit code."""
    found = [phrase for phrase in _NOTED if phrase.lower() in stderr.lower()][:1]
    found += re.findall(r"exit code -?\d+|kcat did not end", stderr)
    return ", ".join(found) or "ok"


def produce(topic: str, *settings: str) -> Case:
    options = [word for setting in ("message.timeout.ms=8000", *settings) for word in ("-X", setting)]
    return lambda: told(kcat("-P", "-t", topic, "-p", "0", *options, said="hello\n")[1])


def consume(topic: str) -> Case:
    def case() -> str:
        out, stderr = kcat("-C", "-t", topic, "-p", "0", "-o", "beginning", "-e", "-q", "-c", "1", "-f", "%t\\n")
        return ", ".join(filter(None, [*sorted(set(out.split())), told(stderr)]))

    return case


def consume_group(topic: str) -> Case:
    def case() -> str:
        group = f"classic-{topic}-{unique()}"
        options = ["-X", "auto.offset.reset=earliest", "-c", "1", "-f", "%t\\n"]
        out, stderr = kcat(*options, "-G", group, topic)
        return ", ".join(filter(None, [*sorted(set(out.split())), told(stderr)]))

    return case


def list_topics() -> str:
    out, stderr = kcat("-L")
    return visible(re.findall(r'topic "([^"]+)"', out)) or told(stderr)


def describe(topic: str) -> Case:
    def case() -> str:
        out, stderr = kcat("-L", "-t", topic)
        return ", ".join(re.findall(r'topic "[^"]+" with \d+ partitions:? ?(.*)', out)) or told(stderr)

    return case


def offsets(topic: str) -> Case:
    return lambda: told(kcat("-Q", "-t", f"{topic}:0:-1")[1])


CASES: dict[str, Case] = {
    "produce allowed": produce(ALLOWED),
    "produce forbidden": produce(FORBIDDEN),
    "produce acks 0": produce(FORBIDDEN, "acks=0"),
    "produce idempotent": produce(ALLOWED, "enable.idempotence=true"),
    "transaction": produce(ALLOWED, f"transactional.id=txn-{unique()}"),
    "transaction forbidden": produce(FORBIDDEN, f"transactional.id=txn-forbidden-{unique()}"),
    "consume allowed": consume_group(ALLOWED),
    "consume forbidden": consume_group(FORBIDDEN),
    "consume assigned": consume(ALLOWED),
    "consume assigned forbidden": consume(FORBIDDEN),
    "list topics": list_topics,
    "describe allowed": describe(ALLOWED),
    "describe forbidden": describe(FORBIDDEN),
    "offsets allowed": offsets(ALLOWED),
    "offsets forbidden": offsets(FORBIDDEN),
}


def name(error: BaseException) -> str:
    return type(error).__name__


if __name__ == "__main__":
    run(CASES, name)
