"""`penstock policy`: validate files without an agent, show what an agent has in force."""

from __future__ import annotations

from typing import Any

import click

from proxy.cli.cases import test_command
from proxy.cli.diff import diff_command
from proxy.cli.explain import explain_command
from proxy.cli.output import Failure, agent_options, ask, echo_json, echo_table, output_option
from proxy.cli.selectors import selectors_command
from proxy.cli.validate import codes_command, schema_command, validate_command
from proxy.cli.wait import wait_command


@click.group(no_args_is_help=True)
def policy() -> None:
    """Check policy files, show policies in force.

    \b
    Examples:
      penstock policy validate policies/
      penstock policy get
      penstock policy explain --from shop/front --to shop/cart --port 80/tcp
    """


@policy.command()
@click.argument("name", required=False, metavar="[[NAMESPACE/]NAME]")
@output_option("json", "table")
@agent_options
def get(name: str | None, output: str, socket_path: str) -> None:
    """Print the policies in force and their revision.

    \b
    Examples:
      penstock policy get
      penstock policy get web/api -o table
    """
    body = ask(socket_path, "/v1/policy")
    items = [item for item in body["policy"] if name is None or _is_named(item, name)]
    if name is not None and not items:
        raise Failure(f"no policy {name!r} is in force", "see `penstock policy get -o table`")
    if output == "table":
        echo_table([["KIND", "NAMESPACE", "NAME", "RULE", "FILE", "ENDPOINTS"], *_rows(items)])
    else:
        echo_json(items)
    click.echo(f"Revision: {body['revision']}")


policy.add_command(diff_command)
policy.add_command(explain_command)
policy.add_command(selectors_command)
policy.add_command(wait_command)
policy.add_command(test_command)
policy.add_command(validate_command)
policy.add_command(codes_command)
policy.add_command(schema_command)


def _is_named(item: dict[str, Any], name: str) -> bool:
    namespace, slash, bare = name.rpartition("/")
    return item["name"] == bare and (not slash or item["namespace"] == namespace)


def _rows(items: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            item["kind"],
            item["namespace"],
            item["name"],
            rule["rule"],
            f"{rule['file']}:{rule['line']}" if rule["file"] else "",
            str(len(item.get("endpoints", ()))),
        ]
        for item in items
        for rule in item["rules"]
    ]
