"""`penstock status`: the agent's health in lines that people and grep read, or as JSON."""

from __future__ import annotations

import time
from typing import Any

import click

from proxy.api.client import AgentError
from proxy.cli.output import agent_options, client, echo_json, echo_pairs, failure, output_option
from proxy.flows.reasons import reason_words

_POLL_S = 0.2
_NS = 1_000_000_000


@click.command()
@output_option("text", "json")
@click.option("--brief", is_flag=True, help="One word.")
@click.option("--wait", is_flag=True, help="Wait until the agent is healthy.")
@click.option("--wait-duration", type=click.FloatRange(0), default=60.0, show_default=True, metavar="SECONDS")
@agent_options
@click.pass_context
def status(ctx: click.Context, output: str, brief: bool, wait: bool, wait_duration: float, socket_path: str) -> None:
    """Say how the agent is doing. Exit code 1 unless everything is in order, broken policy files included.

    \b
    Examples:
      penstock status
      penstock status --brief --wait --wait-duration 10
      penstock status -o json | jq .policy.findings
    """
    body = _wait(socket_path, wait_duration) if wait else _ask(socket_path)
    healthy = body["cilium"]["state"] == "Ok"
    if output == "json":
        echo_json(body)
    elif brief:
        click.echo(body["cilium"]["state"])
    else:
        echo_pairs(_lines(body))
    if not healthy:
        ctx.exit(1)


def _ask(socket_path: str) -> dict[str, Any]:
    try:
        body = client(socket_path).get("/v1/healthz", accept=(200, 503))
    except AgentError as error:
        raise failure(error) from None
    assert isinstance(body, dict)
    return body


def _wait(socket_path: str, seconds: float) -> dict[str, Any]:
    """The first healthy answer, or the last one (or failure) when time is up."""
    deadline = time.monotonic() + seconds
    while True:
        is_late = time.monotonic() >= deadline
        try:
            body = client(socket_path).get("/v1/healthz", accept=(200, 503))
            if body["cilium"]["state"] == "Ok" or is_late:
                assert isinstance(body, dict)
                return body
        except AgentError as error:
            if is_late:
                raise failure(error) from None
        time.sleep(_POLL_S)


def _lines(body: dict[str, Any]) -> list[tuple[str, str]]:
    overall = body["cilium"]
    return [
        ("Penstock", f"{overall['state']}   {overall['msg']}".rstrip()),
        ("Node", f"{body['node']}, version {body['version']}, up {_duration(body['uptime-seconds'])}"),
        ("Policy", _policy(body["policy"])),
        ("Endpoints", _endpoints(body)),
        ("Datapath", _datapath(body["datapath"])),
        ("Proxy Status", _proxy(body["proxy"])),
        ("Hubble", _hubble(body["hubble"])),
    ]


def _policy(policy: dict[str, Any]) -> str:
    audit = ", audit mode" if policy["audit"] else ""
    count = policy["policies"]
    lines = [
        f"{policy['state']}   revision {policy['revision']}, {count} {'policy' if count == 1 else 'policies'}, "
        f"enforcement {policy['enforcement']}{audit}"
    ]
    lines += [f"BROKEN {name}: its last good version stays in force" for name in policy["stale-files"]]
    lines += [f"BROKEN {name}: never was good, what it may select is denied" for name in policy["denying-files"]]
    for finding in policy["findings"]:
        if finding["severity"] == "info":
            continue
        where = f"{finding['file']}:{finding['line']}:{finding['column']}"
        lines.append(f"{where}: {finding['severity']} {finding['code']}: {finding['message']}")
        if finding["hint"]:
            lines.append(f"  {finding['hint']}")
    return "\n".join(lines)


def _endpoints(body: dict[str, Any]) -> str:
    endpoints = body["endpoints"]
    return (
        f"{endpoints['local']} local, {endpoints['enforced']} of them under policy, "
        f"{endpoints['total'] - endpoints['local']} remote; {body['identities']['total']} identities"
    )


def _datapath(datapath: dict[str, Any]) -> str:
    lines = [f"{datapath['state']}   {datapath['msg']}".rstrip()]
    details = dict(datapath["details"])
    for drop in details.pop("drops", ()):
        direction = "egress" if drop["direction"] else "ingress"
        lines.append(f"dropped {direction}: {drop['packets']} packets, {reason_words(drop['reason'])}")
    for endpoint, why in details.pop("pending", {}).items():
        lines.append(f"endpoint {endpoint} NOT ATTACHED: {why}")
    for endpoint, rows in details.pop("oversized", {}).items():
        lines.append(
            f"endpoint {endpoint}: its policy has {rows} rows, more than bpf-policy-map-max: what it had stays"
        )
    for key, names in (("forwarded", ("ingress", "egress")), ("events_lost", ("rate-limited", "buffer full"))):
        counts = details.pop(key, None) or (0, 0)
        if any(counts):
            lines.append(
                f"{key.replace('_', ' ')}: {', '.join(f'{n} {name}' for n, name in zip(counts, names, strict=False))}"
            )
    return "\n".join([*lines, *(f"{key}: {_detail(key, value)}" for key, value in details.items() if value)])


def _detail(key: str, value: Any) -> str:
    """Counts and tables of the datapath on one line."""
    if key == "interfaces":
        return f"{len(value)} attached"
    if key == "pressure":
        return ", ".join(f"{name} {percent:g}%" for name, percent in value.items() if percent) or "all maps are empty"
    if isinstance(value, dict):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _proxy(proxy: dict[str, Any]) -> str:
    workers = proxy["workers"]
    ready = sum(worker["ready"] for worker in workers)
    lines = [
        f"{'OK' if ready == len(workers) else 'Failure'}, {ready}/{len(workers)} workers ready, "
        f"{proxy['total-redirects']} redirects active"
    ]
    for worker in workers:
        state = "ready" if worker["ready"] else "NOT READY"
        restarts = f", {worker['restarts']} restarts" if worker["restarts"] else ""
        lines.append(
            f"worker {worker['index']} (pid {worker['pid']}): {state}, revision {worker['revision']}, "
            f"{worker['connections']} connections{restarts}"
        )
    return "\n".join(lines)


def _hubble(hubble: dict[str, Any]) -> str:
    observer = hubble["observer"]
    current, maximum, seen = observer["current-flows"], observer["max-flows"], observer["seen-flows"]
    rate = seen * _NS / observer["uptime"] if observer["uptime"] else 0.0
    lost = f", {observer['lost-flows']:,} lost" if observer["lost-flows"] else ""
    share = 100 * current / maximum if maximum else 0.0
    return f"{hubble['state']}   Current/Max Flows: {current:,}/{maximum:,} ({share:.2f}%), Flows/s: {rate:.2f}{lost}"


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"
