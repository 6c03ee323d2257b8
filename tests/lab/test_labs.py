"""Labs themselves: what is inside, how programs run in them, and that nothing is left of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.lab import Lab, LabError, linux, names
from tests.lab.support import NOTHING, eventually, footprint

pytestmark = pytest.mark.lab
WORKLOADS = Path(__file__).parent / "workloads.yaml"
POLICY = WORKLOADS.with_name("policy.yaml")


@pytest.fixture(scope="module")
def lab(lab_name: str) -> Iterator[Lab]:
    with Lab.up(lab_name, [WORKLOADS]) as made:
        yield made


def penstock(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "proxy", "lab", *arguments]


@pytest.mark.parametrize("ip", [4, 6])
@pytest.mark.parametrize("name", ["server", "server.shop", "server.shop.svc.cluster.local", "server.shop.pod"])
def test_names_lead_to_the_server_and_addresses_stay(lab: Lab, name: str, ip: int) -> None:
    done = lab.exec("shop/client", ["curl", "-sS", f"-{ip}", "--max-time", "10", f"http://{name}/x"])
    facts = json.loads(done.stdout)
    client = lab.pod("shop/client")
    assert facts["pod"] == "shop/server"
    assert facts["client"] == (client.v6 if ip == 6 else client.v4)


@pytest.mark.parametrize("ip", [4, 6])
def test_the_outside_world_sees_the_pods_address(lab: Lab, ip: int) -> None:
    done = lab.exec("shop/client", ["curl", "-sS", f"-{ip}", "--max-time", "10", "http://api.stripe.com/"])
    facts = json.loads(done.stdout)
    client = lab.pod("shop/client")
    assert (facts["pod"], facts["client"]) == ("world", client.v6 if ip == 6 else client.v4)


def test_the_outside_world_reaches_pods(lab: Lab) -> None:
    done = lab.exec("world", ["curl", "-sS", "--max-time", "10", f"http://{lab.pod('shop/server').v4}/"])
    assert json.loads(done.stdout)["pod"] == "shop/server"


def test_names_that_are_not_there_do_not_exist(lab: Lab) -> None:
    assert lab.exec("shop/client", ["getent", "hosts", "server.elsewhere"]).returncode == 2


def test_the_pod_knows_who_it_is(lab: Lab) -> None:
    done = lab.exec(
        "shop/client", ["sh", "-c", "hostname; echo $PENSTOCK_POD; ls /sys/class/net /proc/sys/net/ipv4/conf"]
    )
    assert done.stdout.splitlines()[:2] == ["client", "shop/client"]
    assert "eth0" in done.stdout


def test_nothing_of_it_is_outside(lab: Lab) -> None:
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    assert not any(pod.interface in links for pod in lab.state.pods.values())
    assert str(lab.pod("kube-system/kube-dns").v4) not in Path("/etc/resolv.conf").read_text(encoding="utf-8")


def test_exec_hands_on_input_output_and_exit_code(lab: Lab) -> None:
    command = penstock("exec", "--name", lab.name, "shop/client", "--", "sh", "-c", "cat; echo no >&2; exit 7")
    done = subprocess.run(command, input="in\n", capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "no\n", 7)


def test_exec_is_the_program_itself(lab: Lab) -> None:
    """Signals reach the program because nothing stands between: the process is the program."""
    command = penstock(
        "exec",
        "--name",
        lab.name,
        "shop/client",
        "--",
        "sh",
        "-c",
        "trap 'exit 9' TERM; echo $$; while :; do sleep 0.05; done",
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline()) == child.pid
        child.terminate()
        assert child.wait() == 9


def test_exec_of_what_is_not_there(lab: Lab) -> None:
    done = subprocess.run(penstock("exec", "--name", lab.name, "client", "true"), capture_output=True, text=True)
    assert done.returncode == 1
    assert "did you mean shop/client?" in done.stderr
    done = subprocess.run(
        penstock("exec", "--name", lab.name, "shop/client", "nonesuch"), capture_output=True, text=True
    )
    assert done.returncode == 127
    assert "nonesuch: not found" in done.stderr


def test_list(lab: Lab) -> None:
    done = subprocess.run(penstock("list"), capture_output=True, text=True, check=True)
    assert lab.name in done.stdout
    done = subprocess.run(penstock("list", lab.name), capture_output=True, text=True, check=True)
    assert lab.pod("shop/server").v6 in done.stdout


def test_the_name_is_taken(lab: Lab) -> None:
    with pytest.raises(LabError, match="exists already") as caught:
        Lab.up(lab.name, [WORKLOADS])
    assert f"penstock lab down {lab.name}" in caught.value.hint
    assert lab.exec("shop/client", ["true"]).returncode == 0


def test_two_labs_side_by_side(lab: Lab, lab_name: str) -> None:
    other = f"{lab_name}-2"
    with Lab.up(other, [WORKLOADS]) as second:
        addresses = [{pod.v4 for pod in each.state.pods.values()} for each in (lab, second)]
        assert not addresses[0] & addresses[1]
        for each in (lab, second):
            done = each.exec("shop/client", ["curl", "-sS", "-4", "--max-time", "10", "http://server/"])
            assert json.loads(done.stdout)["client"] == each.pod("shop/client").v4
        unreachable = second.exec("shop/client", ["curl", "-sS", "-m", "1", f"http://{lab.pod('shop/server').v4}/"])
        assert unreachable.returncode != 0
    assert footprint(other) == NOTHING
    assert lab.exec("shop/client", ["curl", "-sS", "-o", "/dev/null", "http://server/"]).returncode == 0


def test_down_leaves_nothing_and_may_be_repeated(lab_name: str) -> None:
    name = f"{lab_name}-d"
    lab = Lab.up(name, [WORKLOADS])
    # Programs that ignore being asked, and that left their session.
    stubborn = lab.popen("shop/client", ["sh", "-c", "trap '' TERM HUP; setsid sleep 300 & while :; do sleep 1; done"])
    assert footprint(name) != NOTHING
    lab.down()
    assert footprint(name) == NOTHING
    assert stubborn.poll() == -signal.SIGKILL
    lab.down()
    done = subprocess.run(penstock("down", name), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, f"there is no lab {name}\n")


def test_a_failure_on_the_way_up_leaves_nothing(lab_name: str, tmp_path: Path) -> None:
    name = f"{lab_name}-f"
    manifest = tmp_path / "broken.yaml"
    text = "kind: Pod\nmetadata:\n  name: p\n  annotations: {lab.penstock.io/run: echo sorry; exit 3}\n"
    manifest.write_text(text + "spec: {containers: [{ports: [{containerPort: 80}]}]}\n", encoding="utf-8")
    with pytest.raises(LabError, match="'run' in default/p ended with exit code 3") as caught:
        Lab.up(name, [manifest])
    assert "sorry" in caught.value.hint
    assert footprint(name) == NOTHING


def test_an_agent_that_does_not_start_is_told_with_its_log(lab_name: str) -> None:
    name = f"{lab_name}-g"
    with pytest.raises(LabError, match="the agent ended with exit code 1") as caught:
        Lab.up(name, [WORKLOADS], policies=[POLICY], settings={"nonsense": 1})
    assert 'unknown setting "nonsense"' in caught.value.hint
    assert footprint(name) == NOTHING


def test_two_ups_of_one_name_at_once(lab_name: str) -> None:
    name = f"{lab_name}-r"
    command = penstock("up", name, "-f", str(WORKLOADS))
    racers = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
    codes = sorted(racer.wait() for racer in racers)
    assert codes == [0, 1, 1]
    Lab.attach(name).down()
    assert footprint(name) == NOTHING


@pytest.mark.parametrize("moment", ["state", "namespaces", "links", "programs", "bpffs", "agent"])
def test_down_after_kill_9_in_the_middle_of_up(lab_name: str, moment: str) -> None:
    name = f"{lab_name}-k"
    command = penstock("up", name, "-f", str(WORKLOADS), "--policies", str(POLICY))
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 20
    while not _is_reached(moment, name) and child.poll() is None and time.monotonic() < deadline:
        pass
    child.kill()
    child.wait()
    subprocess.run(penstock("down", name), check=True, stderr=subprocess.DEVNULL)
    assert footprint(name) == NOTHING
    with Lab.up(name, [WORKLOADS]) as lab:
        assert lab.exec("shop/client", ["curl", "-sS", "-o", "/dev/null", "http://server/"]).returncode == 0
    assert footprint(name) == NOTHING


def _is_reached(moment: str, name: str) -> bool:
    if moment == "state":
        return names.state_dir(name).exists()
    if moment == "bpffs":
        return any(names.state_dir(name) in path.parents for path in linux.mount_points())
    if moment == "agent":
        return (names.state_dir(name) / "agent" / "penstock.sock").exists()
    if moment == "programs":
        return bool(footprint(name)["processes"])
    return len(names.existing_netns(name)) == {"namespaces": 2, "links": 6}[moment]


def test_down_after_kill_9_in_the_middle_of_down(lab_name: str) -> None:
    name = f"{lab_name}-x"
    quiet = subprocess.DEVNULL
    subprocess.run(penstock("up", name, "-f", str(WORKLOADS)), check=True, stdout=quiet, stderr=quiet)
    child = subprocess.Popen(penstock("down", name), stderr=subprocess.DEVNULL)
    eventually(lambda: len(footprint(name)["processes"]) < 5 or child.poll() is not None)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    subprocess.run(penstock("down", name), check=True, stderr=subprocess.DEVNULL)
    assert footprint(name) == NOTHING
