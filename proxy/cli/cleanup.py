"""`penstock cleanup`: removes programs, maps, rules, routes and devices that the agent leaves in force when it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxy.api.listen import is_served
from proxy.cli.output import Failure, bpf_root_option, default_socket


@click.command()
@bpf_root_option
@click.option(
    "--socket", "socket_path", type=click.Path(path_type=Path), default=default_socket, help="The agent's socket."
)
@click.option("-f", "--force", is_flag=True, help="Do not ask, and do it although an agent runs.")
def cleanup(bpf_root: Path, socket_path: Path, force: bool) -> None:
    """Remove everything Penstock left in the kernel: enforcement ends, all traffic flows.

    The agent leaves its programs in force when it ends, so that a restart opens nothing. This takes them away.

    \b
    Examples:
      sudo penstock cleanup
      sudo penstock cleanup --force --bpf-root /sys/fs/bpf/penstock
    """
    if not force:
        if is_served(socket_path):
            raise Failure(f"an agent runs and serves {socket_path}", "stop it first, or use --force")
        if not sys.stdin.isatty():
            raise click.UsageError("this ends enforcement: confirm it with --force.")
        click.confirm(f"End enforcement and remove everything below {bpf_root}?", abort=True)
    from proxy.datapath import BpfError
    from proxy.datapath import cleanup as remove

    try:
        removed = remove(bpf_root)
    except (BpfError, PermissionError) as error:
        raise Failure(f"cannot clean up below {bpf_root}: {error}", "run it as root") from None
    for item in removed:
        click.echo(f"removed {item}")
    if not removed:
        click.echo(f"Nothing to remove: no trace of Penstock below {bpf_root}.", err=True)
