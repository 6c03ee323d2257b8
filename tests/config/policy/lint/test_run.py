"""The list of lints, their codes, and what they cost."""

from __future__ import annotations

from config import codes
from config.findings import Severity
from config.policy.lint import names, reach, requests, shadows
from config.policy.lint.run import LINTS, lint
from config.policy.lint.view import Note, View
from tests.config.policy.builders import load
from tests.config.policy.lint.builders import a, http, plain

PEERS = "fromEndpoints: [{matchLabels: {x: y, n: n%d}}], "


def test_every_lint_says_what_it_is_about_and_is_run() -> None:
    assert all(check.__doc__ for check in LINTS)
    public = {
        value
        for module in (names, reach, requests, shadows)
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__ and callable(value)
    }
    assert set(LINTS) == public


def test_codes_have_hints_and_are_no_errors_but_one() -> None:
    own = [code for code in codes.ALL.values() if "CNP320" <= code.id <= "CNP349"]
    assert all(code.hint and code.severity is not Severity.ERROR for code in own)
    assert codes.L7_CONFLICT.severity is Severity.ERROR


def test_the_order_of_documents_does_not_matter_for_what_is_found() -> None:
    documents = load(
        a(f"ingress: [{http()}, {plain()}]"), a(f"ingress: [{plain()}]", name="q"), a("egress: [{}]", name="r")
    ).documents

    def said(notes: list[Note]) -> set[tuple[str, str]]:
        return {(note.code.id, note.document.name) for note in notes if note.code is not codes.ENTRY_TWICE}

    assert said(list(lint(View(documents)))) == said(list(lint(View(documents[::-1]))))


def test_many_rules_are_compared_with_few() -> None:
    """Of 2,000 rules with common labels none is compared with all others."""
    compared = 0

    class Counting(View):
        def __init__(self) -> None:
            texts = [
                a(
                    f"ingress: [{(http if n % 2 else plain)(peers=PEERS % n)}]",
                    name=f"p{n}",
                    subject=f"{{matchLabels: {{app: web, shard: s{n}}}}}",
                )
                for n in range(2000)
            ]
            super().__init__(load(*texts).documents)

        def covering(self, subject):  # type: ignore[no-untyped-def]
            nonlocal compared
            found = super().covering(subject)
            compared += len(found)
            return found

    assert list(lint(Counting())) == []
    assert compared < 20_000
