"""`penstock lab demo`: the examples in one lab, every probe run for real, and a table of what came of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import config
from proxy.lab.attribution import decisions, describe
from proxy.lab.errors import LabError
from proxy.lab.lab import Lab
from proxy.lab.prober import Prober
from proxy.lab.probes import ProbeFile, read_probes
from proxy.lab.progress import Progress
from proxy.lab.report import Row, Section, render, summary, wants_colour

SCENARIOS = ("foundational", "http-ingress", "user-service", "test-app", "default-deny", "api-server", "kafka", "dns")
# Room for the flows of all probes and their DNS queries: the table reads them at the end.
_SETTINGS = {"hubble_event_buffer_capacity": 16383}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One folder of the examples."""

    name: str
    folder: Path
    probes: ProbeFile


def examples() -> Path:
    return Path(str(config.__file__)).parent / "examples"


def load_scenarios(only: Sequence[str] = ()) -> list[Scenario]:
    wanted = only or SCENARIOS
    for name in wanted:
        if name not in SCENARIOS:
            raise LabError(f"there is no scenario {name!r}", f"there is {', '.join(SCENARIOS)}")
    return [Scenario(name, examples() / name, read_probes(examples() / name / "probes.yaml")) for name in wanted]


def run_demo(name: str, only: Sequence[str] = (), keep: bool = False, output: TextIO | None = None) -> bool:
    """Up, probe, print, down. True if everything came out as expected."""
    stream = output or sys.stdout
    scenarios = load_scenarios(only)
    told = Progress()
    lab = Lab.up(
        name,
        [scenario.folder / "workloads.yaml" for scenario in scenarios],
        policies=[scenario.folder / "policies.yaml" for scenario in scenarios],
        settings=_SETTINGS,
        progress=told,
    )
    try:
        sections = probe(lab, scenarios, told)
    except BaseException:
        lab.down()
        raise
    colour = wants_colour(stream)
    width = shutil.get_terminal_size().columns if stream.isatty() else 0
    for line in ("", *render(sections, colour, width), "", summary(sections, colour)):
        print(line, file=stream)
    if keep:
        print(_what_next(lab), file=stream)
    else:
        with told.step("the lab is taken down"):
            lab.down()
    return all(row.result.is_expected for section in sections for row in section.rows)


def probe(lab: Lab, scenarios: Sequence[Scenario], told: Progress) -> list[Section]:
    """All probes of all scenarios, with the rules that decided."""
    probes = [item for scenario in scenarios for item in scenario.probes.probes]
    with told.step(f"{len(probes)} probes"):
        results = Prober(lab).run(probes)
    with told.step("their flow records"):
        flows = decisions(lab, results)
    rows = iter([Row(result, describe(flow)) for result, flow in zip(results, flows, strict=True)])
    return [Section(scenario.probes.title, tuple(next(rows) for _ in scenario.probes.probes)) for scenario in scenarios]


def _what_next(lab: Lab) -> str:
    pods = [ref for ref in lab.state.pods if not ref.startswith("kube-system/")]
    pod = next((ref for ref in pods if not lab.state.pods[ref].runs), pods[0])
    return f"""
The lab {lab.name!r} is still up. Try:
  penstock lab list {lab.name}
  penstock lab exec --name {lab.name} {pod} -- curl -v http://example.com/
  penstock observe --socket {lab.agent.socket} --follow --verdict DROPPED
  penstock status --socket {lab.agent.socket}
  edit a file in {lab.state.policies}: the next request meets the new policy
  penstock lab down {lab.name}"""
