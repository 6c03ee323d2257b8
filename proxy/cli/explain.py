"""`penstock policy explain`: may this connection be, and which rules say so; on files, or asking the agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from proxy.api.client import AgentError
from proxy.cli.output import agent_options, client, echo_json, failure, output_option, wants_colour
from proxy.flows.printers import clean
from proxy.flows.table import render

if TYPE_CHECKING:
    from proxy.questions import Asked

DENIED: Final = 3
"""Exit code of an answer that says no."""

_WORDS: Final = {"allow": "ALLOWED", "deny": "DENIED", "audit": "AUDITED"}
_COLOURS: Final = {"allow": "green", "deny": "red", "audit": "yellow"}
_MANY: Final = ("--policies", "--endpoints")


class _ManyFiles(click.Command):
    """Lets `--policies` and `--endpoints` take several files in a row."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_repeated(args)))


def _repeated(args: list[str]) -> Iterator[str]:
    option, taken = "", False
    for text in args:
        if text.startswith("-"):
            option, taken = text if text in _MANY else "", False
        elif option:
            if taken:
                yield option
            taken = True
        yield text


@click.command("explain", cls=_ManyFiles)
@click.option("--from", "source", required=True, metavar="WHO", help="Who sends: see below.")
@click.option("--to", "destination", required=True, metavar="WHO", help="Who receives: see below.")
@click.option("--port", default="", metavar="PORT/PROTOCOL", help="80/tcp, 53/udp, http/tcp, 8/icmp, 128/icmpv6.")
@click.option("-n", "--namespace", default="default", show_default=True, help="Of pods and labels without one.")
@click.option("--http", default="", metavar="'METHOD PATH'", help="The HTTP request to judge.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header of it; repeatable.")
@click.option("--host", default="", help="Its host.  [default: the destination's name]")
@click.option("--grpc", default="", metavar="PKG.SERVICE/METHOD", help="The gRPC call to judge.")
@click.option("--dns", default="", metavar="NAME[:TYPE]", help="The DNS query to judge.")
@click.option(
    "--kafka", default="", metavar="produce:TOPIC", help="The Kafka request: also consume:TOPIC, APIKEY:TOPIC."
)
@click.option("--sni", default="", metavar="NAME", help="The server name of the TLS connection to judge.")
@click.option("--name", "names", multiple=True, metavar="NAME=IP", help="What DNS answers for a name; repeatable.")
@click.option("--all", "everything", is_flag=True, help="List entries of policies about other pods, too.")
@click.option(
    "--policies",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH...",
    help="These files, not the agent's.",
)
@click.option(
    "--endpoints", multiple=True, type=click.Path(path_type=Path), metavar="FILE...", help="Endpoints or manifests."
)
@click.option("--ignore-errors", is_flag=True, help="Go on with broken files: what they may select is denied.")
@click.option(
    "--enable-policy", type=click.Choice(["default", "always", "never"]), help="As the setting.  [default: default]"
)
@click.option("--audit", is_flag=True, help="As the setting policy-audit-mode.")
@click.option(
    "--bind-names", type=click.Choice(["off", "tls", "all"]), help="As the setting tofqdns-bind-names.  [default: tls]"
)
@output_option("text", "json")
@agent_options
@click.pass_context
def explain_command(
    ctx: click.Context,
    source: str,
    destination: str,
    port: str,
    namespace: str,
    http: str,
    headers: tuple[str, ...],
    host: str,
    grpc: str,
    dns: str,
    kafka: str,
    sni: str,
    names: tuple[str, ...],
    everything: bool,
    policies: tuple[Path, ...],
    endpoints: tuple[Path, ...],
    ignore_errors: bool,
    enable_policy: str | None,
    audit: bool,
    bind_names: str | None,
    output: str,
    socket_path: str,
) -> None:
    """Say whether a connection or request is allowed, and why: every rule, and which matcher said no.

    With --policies the answer comes from files, as if all pods were on one node; without, from the agent.

    \b
    WHO is one of
      NAMESPACE/POD       a pod, or a workload (Deployment, ...) by its name; without NAMESPACE: that of -n
      app=web,tier=front  labels: a pod that has them, in the namespace of -n
      192.0.2.7           an address
      world, host         and remote-node, kube-apiserver, ingress, health, init, unmanaged, world-ipv4, world-ipv6
      api.example.com     a DNS name (--to), with --name api.example.com=192.0.2.7

    \b
    Exit code: 0 allowed (or only audited), 3 denied, 2 wrong usage or broken files.

    \b
    Examples:
      penstock policy explain --policies policies/ --endpoints pods.yaml --from shop/front --to shop/cart --port 80/tcp
      penstock policy explain --from shop/front-0 --to shop/cart-0 --port http/tcp --http 'GET /items' -H 'x-token: 1'
      penstock policy explain --policies p.yaml -n shop --from app=front --to app=cart --port 80/tcp --grpc v1.Cart/Get
      penstock policy explain --from shop/cart --to api.stripe.com --name api.stripe.com=198.51.100.30 --port 443/tcp
      penstock policy explain --from shop/cart --to kube-system/coredns --dns api.stripe.com:AAAA
      penstock policy explain --from shop/orders --to shop/broker --kafka produce:new-orders
      penstock policy explain --from world --to shop/cart --port 80/tcp -o json | jq .ingress.by
    """
    from proxy.questions import Asked

    asked = Asked(source, destination, port, namespace, http, headers, host, grpc, names, dns, kafka, sni)
    settings = {"enable_policy": enable_policy, "policy_audit_mode": audit, "tofqdns_bind_names": bind_names}
    given = {name: value for name, value in settings.items() if value}
    if policies:
        body = _offline(ctx, asked, everything, policies, endpoints, ignore_errors, given)
    elif endpoints or ignore_errors or given:
        only = "--endpoints, --ignore-errors, --enable-policy, --audit and --bind-names"
        raise click.UsageError(f"{only} go with --policies.")
    else:
        body = _online(asked, everything, socket_path)
    if output == "json":
        echo_json(body)
    else:
        _print(body, asked)
    if body["verdict"] == "deny":
        ctx.exit(DENIED)


def _online(asked: Asked, everything: bool, socket_path: str) -> dict[str, Any]:
    from proxy.api.explain import parameters

    try:
        body: dict[str, Any] = client(socket_path).get("/v1/policy/explain", parameters(asked, everything=everything))
    except AgentError as error:
        if error.status == 400:
            raise click.UsageError(f"{error.message}{f' ({error.hint})' if error.hint else ''}") from None
        raise failure(error) from None
    return body


def _offline(
    ctx: click.Context,
    asked: Asked,
    everything: bool,
    policies: tuple[Path, ...],
    endpoints: tuple[Path, ...],
    ignore_errors: bool,
    given: Mapping[str, object],
) -> dict[str, Any]:
    from config.policy.explain import explain
    from config.policy.offline import read_files
    from config.policy.parties import PartyError
    from config.settings import Settings
    from proxy.questions import QuestionError, question

    files = read_files(policies, endpoints)
    broken = [finding for finding in (*files.findings, *files.endpoints.findings) if finding.is_error]
    for finding in broken:
        click.echo(clean(str(finding)), err=True)
    if not files.endpoints.ok or (broken and not ignore_errors):
        hint = "" if not files.endpoints.ok else "; --ignore-errors goes on, with what they may select denied"
        click.echo(f"Error: {len(broken)} errors in these files{hint}", err=True)
        ctx.exit(2)
    settings = Settings.model_validate(given)
    try:
        parties = (asked.source, asked.destination)
        world = files.world(settings, parties=parties, namespace=asked.namespace)
        return explain(world, question(asked, world), everything=everything).to_json()
    except (PartyError, QuestionError) as error:
        raise click.UsageError(str(error)) from None


def _print(body: dict[str, Any], asked: Asked) -> None:
    """Verdict first, then each direction, then what was considered."""
    colour = wants_colour("auto")
    kinds = (("gRPC", asked.grpc), ("DNS", asked.dns), ("Kafka", asked.kafka), ("server name", asked.sni))
    request = asked.http or next((f"{kind} {text}" for kind, text in kinds if text), "")
    parts = (f"{asked.source} -> {asked.destination}", asked.port, request)
    verdict = body["verdict"]
    word = click.style(_WORDS[verdict], fg=_COLOURS[verdict], bold=True) if colour else _WORDS[verdict]
    click.echo(f"{word}  {clean(' '.join(filter(None, parts)))}")
    for direction, who in (("egress", asked.source), ("ingress", asked.destination)):
        click.echo()
        for line, tone in _side_lines(direction, who, body[direction]):
            click.echo(click.style(clean(line), fg=tone) if colour and tone else clean(line))
    click.echo(f"\nRevision: {body['revision']}")


def _side_lines(direction: str, who: str, side: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Each with its colour, if it has one."""
    head = f"{direction.capitalize()} of {who}: {_WORDS[side['verdict']].lower()}"
    if side["enforced"]:
        head += f" (L4 {side['l4']}{', L7 ' + side['l7'] if side['l7'] else ''})"
    yield head, _COLOURS[side["verdict"]] if side["enforced"] else ""
    if side.get("note"):
        yield f"  {side['note']}", ""
    for by in side["by"]:
        yield f"  by {_place(by)}", ""
    items = side["considered"]
    if not items:
        return
    rows = [["MATCHED", "POLICY", "RULE", "FILE:LINE", "WHY"], *map(_row, items)]
    header, *lines = render(rows)
    yield f"  {header}", ""
    for item, line in zip(items, lines, strict=True):
        yield f"  {line}", _tone(item)


def _row(item: dict[str, Any]) -> list[str]:
    policy = f"{item['namespace']}/{item['policy']}" if item["namespace"] else item["policy"]
    where = f"{item['file']}:{item['line']}" if item["file"] else "-"
    if item["matched"]:
        why = item["reason"] or ("denies" if item["deny"] else "allows")
    else:
        # The matcher and its words, which begin with it where they can.
        why = f"{item['matcher']}: {item['reason'].removeprefix(item['matcher'] + ': ')}"
    return ["yes" if item["matched"] else "no", policy, item["rule"] or "-", where, why]


def _tone(item: dict[str, Any]) -> str:
    if not item["matched"]:
        return ""
    return "red" if item["deny"] else "green"


def _place(by: dict[str, Any]) -> str:
    policy = f"{by['namespace']}/{by['policy']}" if by["namespace"] else by["policy"]
    where = f" ({by['file']}:{by['line']})" if by["file"] else ""
    return " ".join(filter(None, (policy, by["rule"]))) + where
