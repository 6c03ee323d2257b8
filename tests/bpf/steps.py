"""Frames and conversations with the verdict that programs and model must both come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bpf.model import Model
from bpf.tables import DesiredState
from tests.bpf.kernel import POD_A, POD_B, Kernel

PASS, TO_PROXY = 0, 1


@dataclass(frozen=True)
class Case:
    name: str
    state: DesiredState
    frame: bytes
    verdict: int
    at: str = "from_pod"
    ifindex: int = POD_A
    mark: int = 0


def case(name: str, wanted: DesiredState, frame: bytes, verdict: int, **where: object) -> Case:
    return Case(name, wanted, frame, verdict, **where)  # type: ignore[arg-type]


def to_b(name: str, wanted: DesiredState, frame: bytes, verdict: int, mark: int = 0) -> Case:
    return Case(name, wanted, frame, verdict, "to_pod", POD_B, mark)


def predicted(model: Model, one: Case) -> int:
    if one.at == "from_pod":
        return model.from_pod(one.frame, one.ifindex)
    if one.at == "to_world":
        return model.to_world(one.frame, one.mark)
    return model.to_pod(one.frame, one.ifindex, one.mark)


def observed(programs: Kernel, one: Case) -> int:
    if one.at == "from_pod":
        return programs.from_pod(one.frame, one.ifindex).verdict
    if one.at == "to_world":
        return programs.to_world(one.frame, one.mark).verdict
    return programs.to_pod(one.frame, one.ifindex, one.mark).verdict


def hold(programs: Kernel, steps: Sequence[Case]) -> None:
    """A conversation, packet by packet; a step with another state is a change of policy first."""
    model = Model(steps[0].state)
    for number, step in enumerate(steps):
        if programs.apply(step.state).any:
            model.state, model.epoch = step.state, model.epoch + 1
        seen = observed(programs, step), predicted(model, step)
        assert seen == (step.verdict, step.verdict), f"step {number}"
