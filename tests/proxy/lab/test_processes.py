"""Telling processes apart and ending them: only ever those that are meant."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab import processes
from proxy.lab.processes import Process


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def test_records_hold_only_while_the_process_runs(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    processes.record(tmp_path, sleeper.pid, "web/a run")
    assert [(item.pid, item.what) for item in processes.recorded(tmp_path)] == [(sleeper.pid, "web/a run")]
    sleeper.kill()
    sleeper.wait()
    assert processes.recorded(tmp_path) == []


def test_a_later_process_of_the_same_pid_is_not_meant(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    start = processes.start_time(sleeper.pid)
    assert start is not None
    (tmp_path / processes.RECORD).write_text(f"{sleeper.pid} {start - 1} x\nrubbish\n\n", encoding="utf-8")
    assert processes.recorded(tmp_path) == []
    processes.end([Process(sleeper.pid, start - 1)])
    assert sleeper.poll() is None


def test_ending_is_polite_first(sleeper: subprocess.Popen[bytes]) -> None:
    start = processes.start_time(sleeper.pid)
    assert start is not None
    processes.end([Process(sleeper.pid, start), Process(2**22 + 1, 1)])
    assert sleeper.wait() == -signal.SIGTERM


def test_and_firm_then() -> None:
    command = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        start = processes.start_time(child.pid)
        assert start is not None
        processes.end([Process(child.pid, start)], grace=0.05)
        assert child.wait() == -signal.SIGKILL
        os.killpg(child.pid, signal.SIGKILL)


def test_zombies_do_not_run(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert processes.start_time(sleeper.pid) is None


def test_we_and_our_parents_are_no_members() -> None:
    here = os.stat("/proc/self/ns/net")
    found = {item.pid for item in processes.members({(here.st_dev, here.st_ino)})}
    assert os.getpid() not in found
    assert os.getppid() not in found
    assert processes.members(set()) == []
