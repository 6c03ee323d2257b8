"""Ratios of the Kafka benchmark."""

from __future__ import annotations

import pytest

from benchmarks.kafka.modes import DIRECT, PENSTOCK
from benchmarks.kafka.run import Sample, _cases, _ratios


def sample(rate: float, p50: float | None = None) -> Sample:
    return Sample(rate, 1000, p50, None, 0.1, 0.1, 0.2, 50.0, 90.0)


def test_ratios_are_of_the_same_round() -> None:
    """The machine became half as fast after the first round."""
    name = "rd-sync-1k"
    samples = {
        (name, DIRECT.name): [sample(1000, 100), sample(500, 200), sample(500, 200)],
        (name, PENSTOCK.name): [sample(900, 110), sample(450, 230), sample(400, 220)],
    }
    found = _ratios(samples, {name: _cases(1.0)[name]}, (DIRECT, PENSTOCK))
    assert found == {
        "rd-sync-1k penstock/direct records": pytest.approx(0.9),
        "rd-sync-1k penstock/direct p50": pytest.approx(1.1),
        "rd-sync-1k penstock/direct broker-cpu": pytest.approx(1.0),
    }
