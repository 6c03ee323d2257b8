"""What is remembered of a lab, and how it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.lab import names, state
from proxy.lab.errors import LabError
from proxy.lab.inside import Place
from proxy.lab.model import Manifests, PodPort, PodSpec
from proxy.lab.plan import make_plan


@pytest.fixture
def labs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(names, "LABS_DIR", tmp_path / "labs")
    monkeypatch.setattr(names, "NETNS_DIR", tmp_path / "netns")
    return tmp_path / "labs"


def described() -> state.LabState:
    pods = (PodSpec("web", "front-0", ports=(PodPort(80),), runs=(("run", "x"),)), PodSpec("api", "back-0"))
    return state.describe(make_plan("demo", Manifests(pods=pods)), 1.5, Path("/policies"))


def test_it_is_read_as_it_was_written(labs: Path) -> None:
    lab = described()
    lab.directory.mkdir(parents=True)
    state.save(lab)
    assert state.load("demo") == lab
    assert names.existing_labs() == ["demo"]


def test_there_is_no_such_lab(labs: Path) -> None:
    with pytest.raises(LabError, match="there is no lab 'demo'"):
        state.load("demo")


def test_a_lab_that_is_half_there(labs: Path) -> None:
    (labs.parent / "netns").mkdir()
    (labs.parent / "netns" / "penstock-demo.node").touch()
    assert names.existing_labs() == ["demo"]
    with pytest.raises(LabError, match="only half there") as caught:
        state.load("demo")
    assert caught.value.hint == "take it down: penstock lab down demo"


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("front-0", "did you mean web/front-0?"),
        ("web/front", "did you mean web/front-0?"),
        ("wbe/front-0", "did you mean web/front-0?"),
        ("xyzzy", "there are api/back-0, kube-system/kube-dns, node, web/front-0, world"),
    ],
)
def test_unknown_pods_get_suggestions(labs: Path, asked: str, hint: str) -> None:
    with pytest.raises(LabError, match="has no pod") as caught:
        described().place(asked)
    assert caught.value.hint == hint


def test_places(labs: Path) -> None:
    lab = described()
    assert lab.place("web/front-0").netns.name == "penstock-demo.web.front-0"
    assert lab.place("world").netns.name == "penstock-demo.world"


def test_the_environment_inside(labs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("NO_PROXY", "x")
    environment = described().place("web/front-0").environment({"MORE": "1"})
    assert environment["PENSTOCK_POD"] == "web/front-0"
    assert environment["PENSTOCK_LAB"] == "demo"
    assert environment["MORE"] == "1"
    assert not {name.lower() for name in environment} & {"https_proxy", "no_proxy"}


def test_the_agent_is_not_told_of_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the agent every PENSTOCK_* variable is a setting, and an unknown one an error."""
    monkeypatch.setenv("PENSTOCK_POD", "x/y")
    place = Place("demo", "node", Path("/run/netns/x"), None)
    assert [name for name in place.environment() if name.startswith("PENSTOCK_")] == []
    assert place.environment({"PENSTOCK_WORKERS": "1"})["PENSTOCK_WORKERS"] == "1"
