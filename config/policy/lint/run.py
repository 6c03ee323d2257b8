"""All lints over a set of documents. A lint is a function from what there is to what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from config.policy.lint import names, reach, requests, shadows
from config.policy.lint.view import Note, View

Lint = Callable[[View], Iterable[Note]]

LINTS: tuple[Lint, ...] = (
    shadows.conflicting,
    shadows.shadowed,
    shadows.denied,
    shadows.repeated,
    requests.unescaped_host_dots,
    requests.unescaped_path_dots,
    requests.impossible_paths,
    requests.lower_case_methods,
    requests.paths_without_query,
    requests.http_on_tls,
    names.names_never_learnt,
    names.names_on_all_ports,
    names.names_beside_world,
    names.egress_without_dns,
    reach.whole_world_cidrs,
    reach.everybody_denied,
    reach.unknown_references,
    reach.unmatched_by_endpoints,
)


def lint(view: View) -> Iterator[Note]:
    for check in LINTS:
        yield from check(view)
