"""`penstock version`: of this command and of the agent it reaches."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version

import click

from proxy.api.client import AgentError
from proxy.cli.output import agent_options, client, echo_json, output_option


@click.command()
@output_option("text", "json")
@agent_options
def version(output: str, socket_path: str) -> None:
    """Print the version of this command, and of the agent if it runs.

    \b
    Examples:
      penstock version
      penstock version -o json
    """
    own = own_version()
    try:
        daemon = client(socket_path).get("/v1/healthz", accept=(200, 503))["version"]
    except AgentError:
        daemon = ""
    kernel = f"{platform.system()} {platform.release()} {platform.machine()}"
    if output == "json":
        echo_json({"client": own, "daemon": daemon, "python": platform.python_version(), "kernel": kernel})
        return
    click.echo(f"Client: {own} python {platform.python_version()} {kernel}")
    click.echo(f"Daemon: {daemon or 'not running'}")


def own_version() -> str:
    try:
        return installed_version("penstock")
    except PackageNotFoundError:
        return "unknown"
