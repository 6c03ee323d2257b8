"""The demo as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from proxy.lab.demo import SCENARIOS, load_scenarios
from tests.lab.support import NOTHING, footprint

pytestmark = pytest.mark.lab


def test_every_probe_comes_out_as_expected_and_nothing_is_left(lab_name: str) -> None:
    command = [sys.executable, "-m", "proxy", "lab", "demo", "--name", lab_name]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    count = sum(len(scenario.probes.probes) for scenario in load_scenarios(SCENARIOS))
    assert done.stdout.rstrip().endswith(f"all {count} probes came out as expected")
    assert "no flow record" not in done.stdout
    assert "\x1b" not in done.stdout
    assert footprint(lab_name) == NOTHING


def test_it_can_be_kept(lab_name: str) -> None:
    name = f"{lab_name}-k"
    command = [sys.executable, "-m", "proxy", "lab", "demo", "--name", name, "--only", "user-service", "--keep"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"penstock lab down {name}" in done.stdout
        assert "user-service-api ingress[0] user-service.yaml:" in done.stdout
        assert footprint(name)["namespaces"]
    finally:
        subprocess.run([sys.executable, "-m", "proxy", "lab", "down", name], check=True, stderr=subprocess.DEVNULL)
    assert footprint(name) == NOTHING


def test_a_surprise_is_exit_code_1(lab_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without policies nothing is refused: the probes that expect a refusal must be reported."""
    name = f"{lab_name}-s"
    command = [sys.executable, "-m", "proxy", "lab", "demo", "--name", name, "--only", "user-service"]
    environment = {**os.environ, "NO_COLOR": "1", "PENSTOCK_ENABLE_POLICY": "never"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "probes did not come out as expected" in done.stdout
    assert "200 !" in done.stdout
    assert footprint(name) == NOTHING
