"""`penstock policy test`: expected verdicts, for people's own CI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import click

from proxy.cli.output import echo_json, echo_table, output_option
from proxy.flows.printers import clean

if TYPE_CHECKING:
    from proxy.cases import Result


@click.command("test")
@click.argument("tables", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="CASES.yaml...")
@click.option(
    "--policies", multiple=True, required=True, type=click.Path(path_type=Path), metavar="PATH", help="Files."
)
@click.option("--endpoints", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="Or manifests.")
@click.option("--enable-policy", type=click.Choice(["default", "always", "never"]), default="default", help="As set.")
@output_option("text", "json", "junit")
@click.pass_context
def test_command(
    ctx: click.Context,
    tables: tuple[Path, ...],
    policies: tuple[Path, ...],
    endpoints: tuple[Path, ...],
    enable_policy: str,
    output: str,
) -> None:
    """Check verdicts against a table. Exit code 1 if one is not as expected, 2 if the files cannot be used.

    \b
    A table:
      cases:
      - name: the front may list the cart
        from: shop/front              # as for `policy explain`: pods, labels, addresses, world, ...
        to: shop/cart
        port: 80/tcp
        http: GET /items              # or grpc, dns, kafka, sni; headers: ["x-token: 1"]
        expect: allow                 # allow, deny or audit
        by: cart-ingress              # optional: a policy that must have decided

    \b
    Examples:
      penstock policy test cases.yaml --policies policies/ --endpoints workloads.yaml
      penstock policy test cases/*.yaml --policies policies/ --endpoints pods.yaml -o junit > results.xml
    """
    from config.findings import Finding
    from config.policy.offline import read_files
    from config.settings import Settings
    from proxy.cases import Case, read_cases, run_cases

    files = read_files(policies, endpoints)
    read = [item for path in tables for item in read_cases(path)]
    broken = [item for item in (*files.findings, *files.endpoints.findings) if item.is_error]
    broken += [item for item in read if isinstance(item, Finding)]
    for finding in broken:
        click.echo(clean(str(finding)), err=True)
    if broken:
        click.echo(f"Error: {len(broken)} errors in these files", err=True)
        ctx.exit(2)
    settings = Settings.model_validate({"enable_policy": enable_policy})
    results = list(run_cases([item for item in read if isinstance(item, Case)], files, settings))
    _SHOW[output](results)
    if not all(result.ok for result in results):
        ctx.exit(1)


def _text(results: list[Result]) -> None:
    rows = [["RESULT", "CASE", "EXPECTED", "SEEN", "WHY"]]
    for result in results:
        why = result.why if result.ok or result.seen else result.fault
        rows.append(["ok" if result.ok else "FAILED", result.case.name, result.case.expected, result.seen or "-", why])
    echo_table(rows)
    failed = [result for result in results if not result.ok]
    for result in failed:
        click.echo(clean(f"{result.case.file}:{result.case.line}: {result.case.name}: {result.fault}"), err=True)
    click.echo(f"\n{len(results) - len(failed)} passed, {len(failed)} failed")


def _json(results: list[Result]) -> None:
    echo_json({"ok": all(result.ok for result in results), "cases": [result.to_json() for result in results]})


def _junit(results: list[Result]) -> None:
    failed = sum(not result.ok for result in results)
    suite = ElementTree.Element(
        "testsuite", name="penstock policy test", tests=str(len(results)), failures=str(failed), errors="0"
    )
    for result in results:
        place: dict[str, Any] = {"classname": result.case.file, "file": result.case.file, "line": str(result.case.line)}
        case = ElementTree.SubElement(suite, "testcase", name=clean(result.case.name), **place)
        if not result.ok:
            ElementTree.SubElement(case, "failure", message=clean(result.fault)).text = clean(result.why)
    ElementTree.indent(suite)
    click.echo(ElementTree.tostring(suite, encoding="unicode", xml_declaration=True))


_SHOW = {"text": _text, "json": _json, "junit": _junit}
