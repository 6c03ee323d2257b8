"""`penstock run`: flags → settings → the agent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from proxy.cli.output import Failure


@click.command()
@click.option("--policy-dir", "--static-cnp-path", metavar="DIR", help="Folder of policy files (.yaml, .yml, .json).")
@click.option("--endpoints-file", metavar="FILE", help="Workloads of this node: names, labels, addresses, interfaces.")
@click.option("--state-dir", metavar="DIR", help="Socket and state.  [default: /run/penstock]")
@click.option("--bpf-root", metavar="DIR", help="Where programs and maps are pinned.  [default: /sys/fs/bpf/penstock]")
@click.option("--workers", type=click.IntRange(0), metavar="N", help="Proxy processes; 0 is one per core.")
@click.option("--secrets-dir", metavar="DIR", help="Secrets that headerMatches name: DIR/NAMESPACE/NAME.")
@click.option("--enable-policy", type=click.Choice(["default", "always", "never"]), help="Who is under default deny.")
@click.option(
    "--policy-audit-mode/--no-policy-audit-mode", default=None, help="Report what would be denied; deny nothing."
)
@click.option(
    "--allow-localhost", type=click.Choice(["auto", "always", "policy"]), help="Whether the node reaches its pods."
)
@click.option("--service-cidrs", metavar="CIDR,...", help="Addresses of services, which this node translates.")
@click.option(
    "--deny-established", type=click.Choice(["reset", "drop"]), help="How a connection ends that is no longer allowed."
)
@click.option("--http-deny-response", type=click.Choice(["403", "reset", "drop"]), help="What a refused request gets.")
@click.option("--http-403-msg", metavar="TEXT", help="Body of refusals.")
@click.option(
    "--http-denied-by-header/--no-http-denied-by-header",
    default=None,
    help="Refusals say why in a header x-denied-by: for debugging.",
)
@click.option(
    "--kafka-topic-ids",
    type=click.Choice(["resolve", "cap"]),
    help="Kafka topics by id: ask the broker for their names, or offer no such versions.",
)
@click.option(
    "--tofqdns-min-ttl", type=click.IntRange(0), metavar="S", help="Addresses of names stay so long at least."
)
@click.option(
    "--tofqdns-dns-reject-response-code",
    type=click.Choice(["refused", "nameError"]),
    help="What a refused DNS query gets.",
)
@click.option(
    "--tofqdns-bind-names",
    type=click.Choice(["off", "tls", "all"]),
    help="Behind toFQDNs, TLS (all: and HTTP) must ask for a name of the rule.",
)
@click.option("--node-name", metavar="NAME", help="Name of this node in flows.  [default: host name]")
@click.option("--hubble-event-buffer-capacity", type=int, metavar="N", help="Flows kept in memory: 2^n - 1.")
@click.option("--hubble-metrics-server", metavar="ADDRESS", help="Metrics for Prometheus, at /metrics: such as :9965.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="Format of the log on stderr.")
@click.option("--debug/--no-debug", default=None, help="More log.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), metavar="FILE", help="Settings, as YAML.")
@click.option("--config-dir", type=click.Path(path_type=Path), metavar="DIR", help="Settings, one file per key.")
@click.option("--set", "extra", multiple=True, metavar="KEY=VALUE", help="Any other setting.")
def run(config_file: Path | None, config_dir: Path | None, extra: tuple[str, ...], **flags: Any) -> None:
    """Run the agent: enforce policies on this node until SIGTERM. Needs root.

    Settings come from flags, then PENSTOCK_* (and CILIUM_*) variables, then --config-dir, then --config. SIGHUP reads
    policies again; a change of a policy file is noticed by itself.

    \b
    Examples:
      penstock run --policy-dir policies/ --endpoints-file endpoints.yaml
      penstock run --config /etc/penstock.yaml --workers 2 --log-format json
      PENSTOCK_POLICY_DIR=policies penstock run --endpoints-file endpoints.yaml --policy-audit-mode
    """
    from config.settings import SettingsRefused, load_settings

    given: dict[str, object] = {name: value for name, value in flags.items() if value is not None}
    for pair in extra:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"--set {pair!r}: expected KEY=VALUE, such as drain-timeout-s=5.")
        given[key.replace("-", "_")] = value
    try:
        settings = load_settings(given, os.environ, config_dir, config_file)
    except SettingsRefused as error:
        lines = [f"{finding}\n  {finding.hint}" if finding.hint else str(finding) for finding in error.findings]
        raise Failure("\n".join(["these settings cannot be used:", *lines])) from None
    # After the settings: their errors need not wait for everything an agent imports.
    from proxy.app import run as run_agent

    code = run_agent(settings)
    if code:
        raise click.exceptions.Exit(code)
