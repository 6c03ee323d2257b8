"""`penstock policy wait`: until a revision is in force."""

from __future__ import annotations

import time

import click

from proxy.api.client import AgentError
from proxy.cli.output import Failure, agent_options, client

POLL_S = 0.1


@click.command("wait")
@click.argument("revision", type=click.IntRange(min=1))
@click.option("--max-wait-time", type=float, default=360.0, show_default=True, metavar="S", help="Then it has failed.")
@click.option(
    "--fail-wait-time", type=float, default=60.0, show_default=True, metavar="S", help="So long the agent may be away."
)
@agent_options
def wait_command(revision: int, max_wait_time: float, fail_wait_time: float, socket_path: str) -> None:
    """Wait until the workers and the kernel have at least this revision in force. Exit code 1 if that takes too long.

    The revision in force is printed by `penstock policy get` and `penstock status`; a change makes the next one.

    \b
    Examples:
      penstock policy wait 7
      penstock policy wait 7 --max-wait-time 10
    """
    started = answered = time.monotonic()
    seen = "nothing was heard from the agent"
    while True:
        now = time.monotonic()
        try:
            body = client(socket_path).get("/v1/policy")
        except AgentError as error:
            if now - answered > fail_wait_time:
                raise Failure(f"the agent cannot be asked: {error.message}", error.hint) from None
        else:
            answered, seen = now, f"revision {body['revision']} is in force"
            if body["revision"] >= revision:
                click.echo(f"Revision: {body['revision']}")
                return
        if now - started > max_wait_time:
            raise Failure(
                f"revision {revision} is not in force after {max_wait_time:g} s: {seen}", "see penstock status"
            )
        time.sleep(POLL_S)
