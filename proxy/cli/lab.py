"""`penstock lab`: labs of network namespaces, to try and test policies on this machine. Needs root."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import click

from proxy.cli.output import Failure, echo_table
from proxy.lab.errors import LabError
from proxy.lab.names import existing_labs
from proxy.lab.state import LabState, load

_DEFAULT = "lab"


@contextmanager
def _failures() -> Iterator[None]:
    """A lab's trouble is the command's failure."""
    try:
        yield
    except LabError as error:
        raise Failure(error.message, error.hint) from None


@click.group()
def lab() -> None:
    """Try policies in network namespaces of this machine: no cluster, no containers.

    A lab is made from Kubernetes manifests: one namespace per pod, cluster DNS, and an outside world. Annotations
    `lab.penstock.io/run: COMMAND` say what runs in a pod.

    \b
    Examples:
      sudo penstock lab demo
      sudo penstock lab up -f workloads.yaml --policies policies/
      sudo penstock lab exec web/frontend-0 -- curl http://backend-api.api:5000/
      sudo penstock lab down
    """


@lab.command()
@click.argument("name", required=False)
@click.option("--name", "name_option", metavar="NAME", help="The same as the argument.  [default: lab]")
@click.option(
    "-f",
    "--filename",
    "files",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    required=True,
    help="Manifests, or a folder of them; may be given several times.",
)
@click.option(
    "--policies",
    type=click.Path(path_type=Path, exists=True),
    metavar="DIR",
    help="Folder of policies (or a file) for the agent to enforce. Without it nothing is enforced.",
)
@click.option("--cluster-ips", is_flag=True, help="Services have addresses of their own, translated by the nodes.")
@click.option("--set", "extra", multiple=True, metavar="KEY=VALUE", help="A setting of the agent.")
def up(
    name: str | None,
    name_option: str | None,
    files: tuple[Path, ...],
    policies: Path | None,
    cluster_ips: bool,
    extra: tuple[str, ...],
) -> None:
    """Bring a lab up. Pods with `nodeName: node-2` and the like get nodes, and agents, of their own.

    \b
    Examples:
      sudo penstock lab up -f workloads.yaml
      sudo penstock lab up shop -f namespaces.yaml -f pods/ --policies policies/
      sudo penstock lab up -f workloads.yaml --policies policies/ --set policy-audit-mode=true
    """
    from proxy.lab.lab import Lab
    from proxy.lab.progress import Progress

    if name and name_option and name != name_option:
        raise click.UsageError(f"two names are given: {name} and {name_option}.")
    settings = dict(_setting(pair) for pair in extra)
    given = [policies] if policies is not None and policies.is_file() else policies
    with _failures():
        made = Lab.up(
            name or name_option or _DEFAULT,
            files,
            policies=given,
            settings=settings,
            progress=Progress(),
            cluster_ips=cluster_ips,
        )
    _show_pods(made.state)
    pod = next((ref for ref in made.state.pods if not ref.startswith("kube-system/")), "world")
    option = "" if made.name == _DEFAULT else f" --name {made.name}"
    click.echo(f"\nTry: penstock lab exec{option} {pod} -- curl http://example.com/", err=True)
    if policies is not None:
        click.echo(f"     penstock observe --socket {made.agent.socket} --follow", err=True)


def _setting(pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not equals:
        raise click.UsageError(f"--set {pair!r}: expected KEY=VALUE, such as policy-audit-mode=true.")
    return key, value


@lab.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--name", metavar="NAME", help="Which lab.  [env PENSTOCK_LAB; default: the only one that is up]")
@click.argument("pod", metavar="NAMESPACE/POD")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
def execute(name: str | None, pod: str, command: tuple[str, ...]) -> None:
    """Run a program of this machine in a pod (or in `world`, or in a node by its name).

    The program replaces this command: its input, output, signals and exit code are those of the pod's program. 127
    means it was not found. Variables of proxies (http_proxy, ...) are removed, PENSTOCK_POD says where it runs.

    \b
    Examples:
      sudo penstock lab exec web/frontend-0 -- curl -v http://backend-api.api:5000/
      sudo penstock lab exec world -- curl http://10.23.1.1:5000/
      echo hello | sudo penstock lab exec --name demo test-app/app-0 -- python -m proxy.lab.dial database-service 5432
    """
    from proxy.lab.inside import become

    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("say what to run: penstock lab exec NAMESPACE/POD -- COMMAND.")
    with _failures():
        place = load(_chosen(name)).place(pod)
        try:
            become(place, command)
        except OSError as error:
            raise Failure(f"cannot enter {pod}: {error.strerror}", "a lab needs root: try again with sudo") from None


@lab.command(name="list")
@click.argument("name", required=False)
def show(name: str | None) -> None:
    """List labs; with a name, its pods, their addresses and what runs in them.

    \b
    Examples:
      penstock lab list
      penstock lab list demo
    """
    from proxy.lab.agent import Agent

    with _failures():
        if name is not None:
            _show_pods(load(name))
            return
        rows = [("NAME", "PODS", "ADDRESSES", "AGENT", "AGE")]
        for found in existing_labs():
            try:
                state = load(found)
            except LabError:
                rows.append((found, "-", "-", "half there", "-"))
                continue
            pids = [str(pid) for node in state.nodes if (pid := Agent(state, node).pid)]
            agent = f"pid {', '.join(pids)}" if pids else ("ended" if state.policies else "none")
            age = timedelta(seconds=int(time.time() - state.created))
            rows.append((found, str(len(state.pods)), f"{state.v4}, {state.v6}", agent, str(age)))
    echo_table(rows)


def _show_pods(state: LabState) -> None:
    rows = [("POD", "IPV4", "IPV6", "NODE", "INTERFACE", "PORTS", "RUNS")]
    for pod in state.pods.values():
        ports = ",".join(map(str, pod.ports)) or "-"
        rows.append((pod.ref, pod.v4, pod.v6, pod.node, pod.interface, ports, ",".join(pod.runs) or "-"))
    echo_table(rows)
    if state.services:
        click.echo()
        echo_table([("SERVICE", "IPV4", "IPV6"), *((name, *addresses) for name, addresses in state.services.items())])


@lab.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every lab of this machine.")
def down(name: str | None, everything: bool) -> None:
    """Take a lab down and leave nothing behind. Also finishes one that was made or removed halfway.

    \b
    Examples:
      sudo penstock lab down
      sudo penstock lab down shop
      sudo penstock lab down --all
    """
    from proxy.lab.sweep import sweep

    if everything and name:
        raise click.UsageError("give a name or --all.")
    names: Sequence[str] = existing_labs() if everything else [name or _chosen(None)]
    with _failures():
        if os.geteuid() != 0:
            raise LabError("a lab needs root", "try again with sudo")
        for found in names:
            click.echo(f"lab {found} is down" if sweep(found) else f"there is no lab {found}", err=True)


@lab.command()
@click.option("--keep", is_flag=True, help="Leave the lab up, and say what to try next.")
@click.option("--only", multiple=True, metavar="SCENARIO", help="One of the examples; may be given several times.")
@click.option("--name", default="demo", show_default=True, metavar="NAME", help="The lab's name.")
def demo(keep: bool, only: tuple[str, ...], name: str) -> None:
    """Run the examples: real requests between real pods, and which rule decided about each.

    Exit code 1 if any of them came out differently than expected.

    \b
    Examples:
      sudo penstock lab demo
      sudo penstock lab demo --only test-app --keep
    """
    from proxy.lab.demo import run_demo

    with _failures():
        if not run_demo(name, only, keep):
            raise click.exceptions.Exit(1)


def _chosen(name: str | None) -> str:
    """The lab that is meant: by option, by environment, or because there is no other."""
    given = name or os.environ.get("PENSTOCK_LAB")
    if given:
        return given
    labs = existing_labs()
    return labs[0] if len(labs) == 1 else _DEFAULT
