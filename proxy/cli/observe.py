"""`penstock observe`: flows from the agent or from a file, with the flags of `hubble observe`."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import click

from proxy.api.client import AgentError
from proxy.cli.output import Failure, agent_options, client, failure, wants_colour
from proxy.flows.filters import FilterError, FlowFilters
from proxy.flows.flags import FLAGS, FilterBuilder
from proxy.flows.jsonpb import FormatError, decode_line, harmless
from proxy.flows.model import Flow
from proxy.flows.printers import Output, Printer, Style
from proxy.flows.times import TimeFormat, parse_moment

_OUTPUTS: Final = {
    "compact": Output.COMPACT,
    "dict": Output.DICT,
    "table": Output.TABLE,
    "tab": Output.TABLE,
    "json": Output.JSON,
    "jsonpb": Output.JSON,
}
_DEFAULT_LAST: Final = 20
_SEQUENCE: Final = "penstock.observe.filters"


@dataclass(frozen=True, slots=True)
class _Given:
    """A filter flag as it stood on the command line."""

    name: str
    value: str
    negated: bool


class ObserveCommand(click.Command):
    """Keeps the order of filter flags, since `--not` negates the one after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            values, _, order = self.make_parser(ctx).parse_args(args=list(args))
            ctx.meta[_SEQUENCE] = _in_order(values, [parameter.name or "" for parameter in order])
        return super().parse_args(ctx, args)


def _in_order(values: dict[str, Any], order: Sequence[str]) -> list[_Given]:
    given: list[_Given] = []
    taken: dict[str, int] = {}
    negated = False
    for parameter in order:
        if parameter == "negate":
            if negated:
                raise click.UsageError("--not --not: a filter can be negated once.")
            negated = True
            continue
        name = parameter.removeprefix("filter_").replace("_", "-")
        if not parameter.startswith("filter_") and name not in ("allowlist", "denylist"):
            continue
        index = taken.get(parameter, 0)
        taken[parameter] = index + 1
        given.append(_Given(name, values[parameter][index], negated))
        negated = False
    if negated:
        raise click.UsageError("--not needs a filter after it, as in --not --verdict FORWARDED.")
    return given


def _filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for flag in reversed(list(FLAGS.values())):
        names = [f"--{flag.name}", f"filter_{flag.name.replace('-', '_')}"]
        names += [f"-{flag.short}"] if flag.short else []
        function = click.option(*names, metavar=flag.metavar, multiple=True, help=flag.help)(function)
    return function


def _range_options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = (
        click.option("-f", "--follow", is_flag=True, help="Go on showing flows as they happen."),
        click.option("--last", type=click.IntRange(0), metavar="N", help="The newest N.  [default: 20]"),
        click.option("--first", type=click.IntRange(0), metavar="N", help="The oldest N."),
        click.option("--all", "show_all", is_flag=True, help="Everything the agent still has."),
        click.option(
            "--since", metavar="TIME", help="From this time on: 5m ago, or a date such as 2026-01-02T15:04:05Z."
        ),
        click.option("--until", metavar="TIME", help="Up to this time."),
        click.option(
            "--input-file", type=click.File("rb"), metavar="FILE", help="Read JSON lines from FILE, - is stdin."
        ),
        click.option("--not", "negate", is_flag=True, multiple=False, help="Negate the next filter."),
        click.option("--allowlist", multiple=True, metavar="JSON", help="Show what this FlowFilter matches."),
        click.option("--denylist", multiple=True, metavar="JSON", help="Hide what this FlowFilter matches."),
        click.option("-A", "--all-namespaces", is_flag=True, help="Let --pod NAME mean any namespace."),
        click.option("--print-raw-filters", is_flag=True, help="Print the filters as YAML and exit."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _format_options(function: Callable[..., Any]) -> Callable[..., Any]:
    layouts = click.Choice([layout.value for layout in TimeFormat])
    options = (
        click.option("-o", "--output", type=click.Choice(list(_OUTPUTS)), default="compact", show_default=True),
        click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True),
        click.option("--time-format", type=layouts, default=TimeFormat.STAMP_MILLI.value, show_default=True),
        click.option("--numeric", is_flag=True, help="Addresses instead of names."),
        click.option(
            "--ip-translation/--no-ip-translation", default=True, help="Names instead of addresses.  [default]"
        ),
        click.option("--print-node-name", is_flag=True, help="Show which node saw a flow."),
        click.option("--print-policy-names", is_flag=True, help="Name the policies on policy-verdict lines."),
        click.option("--why", is_flag=True, help="Append the deciding rule, file:line and reason (not in Hubble)."),
        click.option("-s", "--silent-errors", is_flag=True, help="Pass over lines of --input-file that are no flows."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command(cls=ObserveCommand)
@_range_options
@_filter_options
@_format_options
@agent_options
@click.pass_context
def observe(ctx: click.Context, /, **options: Any) -> None:
    """Show flows: what was allowed and denied, and why.

    The same filter repeated means OR, different filters mean AND. --pod, --ip, --fqdn, --label, --port, --identity
    and --namespace match either side; with --from- or --to- before the name, only that side.

    \b
    Examples:
      penstock observe                                   the last 20 flows
      penstock observe -f --verdict DROPPED --why        denials as they happen, with their reasons
      penstock observe --to-pod web/api --http-method POST --http-path '^/v1/'
      penstock observe --protocol dns --verdict DROPPED  DNS queries that were refused
      penstock observe --to-fqdn '*.example.com'         connections to what DNS calls so
      penstock observe --since 5m --not --protocol dns -o json | jq .flow
      penstock observe --input-file flows.json -o table
    """
    _refuse_conflicts(options)
    filters = _filters(ctx, options["all_namespaces"])
    if options["print_raw_filters"]:
        _print_raw(filters)
        return
    style = Style(
        output=_OUTPUTS[options["output"]],
        colour=wants_colour(options["color"]),
        time_format=TimeFormat(options["time_format"]),
        node_name=options["print_node_name"],
        policy_names=options["print_policy_names"],
        translate=options["ip_translation"] and not options["numeric"],
        why=options["why"],
    )
    source = _from_file(options, filters) if options["input_file"] else _from_agent(options, filters)
    try:
        _show(source, style, flush=options["follow"])
    except KeyboardInterrupt:
        return
    except AgentError as error:
        raise failure(error) from None


def _refuse_conflicts(options: dict[str, Any]) -> None:
    given = {name for name in ("first", "last") if options[name] is not None}
    given |= {name for name in ("follow",) if options["follow"]} | ({"all"} if options["show_all"] else set())
    for one, other in (("first", "last"), ("first", "all"), ("first", "follow"), ("last", "all")):
        if one in given and other in given:
            raise click.UsageError(f"cannot set both --{one} and --{other}")
    if options["follow"] and _OUTPUTS[options["output"]] is Output.TABLE:
        raise click.UsageError("a table cannot follow: its columns depend on all rows; use -o compact or -o dict")


def _filters(ctx: click.Context, all_namespaces: bool) -> FlowFilters:
    builder = FilterBuilder()
    try:
        for item in ctx.meta[_SEQUENCE]:
            if item.name in ("allowlist", "denylist"):
                builder.add_raw(item.value, deny=(item.name == "denylist") is not item.negated)
            else:
                any_namespace = all_namespaces and item.name in ("pod", "from-pod", "to-pod") and "/" not in item.value
                builder.add(item.name, f"/{item.value}" if any_namespace else item.value, negate=item.negated)
        return builder.build()
    except FilterError as error:
        raise click.UsageError(f"{error}.") from None


def _print_raw(filters: FlowFilters) -> None:
    for name, items in (("allowlist", filters.allow), ("denylist", filters.deny)):
        if items:
            click.echo(f"{name}:")
            for item in items:
                # A single-quoted YAML scalar, in which a quote is written twice.
                click.echo(f"- '{item.text().replace(chr(39), chr(39) * 2)}'")


def _from_agent(options: dict[str, Any], filters: FlowFilters) -> Iterator[bytes]:
    parameters = [("allowlist", item.text()) for item in filters.allow]
    parameters += [("denylist", item.text()) for item in filters.deny]
    parameters += [(name, str(options[name])) for name in ("last", "first") if options[name] is not None]
    parameters += [(name, _moment(options[name], name)) for name in ("since", "until") if options[name]]
    parameters += [("all", "true")] if options["show_all"] else []
    parameters += [("follow", "true")] if options["follow"] else []
    return client(options["socket_path"]).lines("/v1/flows", parameters, endless=options["follow"])


def _moment(text: str, name: str) -> str:
    _parse(text, name)
    return text


def _parse(text: str | None, name: str) -> int:
    try:
        return parse_moment(text, time.time_ns()) if text else 0
    except ValueError as error:
        raise click.UsageError(f"--{name}: {error}.") from None


def _from_file(options: dict[str, Any], filters: FlowFilters) -> Iterator[bytes]:
    """Lines of the file whose flows match, in the file's order; --last, --first and --follow do not apply to it."""
    since, until = _parse(options["since"], "since"), _parse(options["until"], "until")
    source: IO[bytes] = options["input_file"]
    for number, line in enumerate(source, 1):
        if not line.strip():
            continue
        try:
            item = decode_line(line)
        except FormatError as error:
            if options["silent_errors"]:
                continue
            raise Failure(f"{source.name}:{number}: {error}", "--silent-errors passes over such lines") from None
        if item is None or (isinstance(item, Flow) and not filters.matches(item)):
            continue
        if item.time_ns >= since and (not until or item.time_ns <= until):
            yield line


def _show(lines: Iterator[bytes], style: Style, *, flush: bool) -> None:
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        # A terminal that is not UTF-8 shall not end the stream.
        out.reconfigure(errors="backslashreplace")
    printer = Printer(out, style)
    for line in lines:
        if style.output is Output.JSON:
            # As it came: fields that this version does not know stay in.
            out.write(harmless(line.decode("utf-8", "replace").rstrip("\r\n")) + "\n")
        else:
            item = decode_line(line)
            if item is not None:
                printer.write(item)
        if flush:
            out.flush()
    printer.close()
    out.flush()
