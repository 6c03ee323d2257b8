"""Explanations, decisions and the kernel's rows never disagree, whatever the policies and whatever is asked."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from config.policy.decide import Allowed, Denied, Inspect, decide
from config.policy.entries import EntryKey, EntryValue, EntryVerdict, policy_entries
from config.policy.explain import L4, Question, Side, Verdict, World, explain
from config.policy.requests import judge
from config.policy.resolved import Direction, EndpointPolicy
from tests.config.policy import generated


@st.composite
def _cases(draw: st.DrawFn) -> tuple[World, Question]:
    world = draw(generated.worlds())
    return world, draw(generated.questions(world))


def _sides(world: World, question: Question) -> list[tuple[Direction, Side, EndpointPolicy, int, bool]]:
    """Of ends that are enforced here: direction, what is explained, the policy, the peer, audit mode."""
    explanation = explain(world, question)
    found = []
    for direction, subject, peer, side in (
        (Direction.EGRESS, question.source, question.destination, explanation.egress),
        (Direction.INGRESS, question.destination, question.source, explanation.ingress),
    ):
        if subject.endpoint is None or not subject.endpoint.is_local or subject.endpoint is peer.endpoint:
            assert (side.enforced, side.verdict, side.l4, side.l7) == (False, "allow", "none", None)
            continue
        policy = world.snapshot.policies[subject.endpoint.id]
        found.append((direction, side, policy, peer.identity, subject.endpoint.audit))
    return found


@settings(max_examples=300)
@given(_cases())
def test_explain_and_decide_agree(case: tuple[World, Question]) -> None:
    world, question = case
    for direction, side, policy, peer, audit in _sides(world, question):
        section = policy.direction(direction)
        assert side.enforced == section.enforced
        decision = decide(section, peer, question.protocol, question.port)
        match decision:
            case Denied():
                assert side.verdict == ("audit" if audit else "deny")
            case Allowed(audited=None):
                assert side.verdict == "allow"
            case Allowed():
                assert side.verdict == "audit"
            case Inspect():
                passes = "audit" if decision.audited else "allow"
                if question.request is None:
                    assert (side.verdict, side.l7) == (passes, None)
                elif judge(decision.rules, question.request) is not None:
                    assert (side.verdict, side.l7) == (passes, "allow")
                else:
                    assert (side.verdict, side.l7) == ("audit" if audit or decision.audit else "deny", "deny")


@settings(max_examples=300)
@given(_cases())
def test_what_was_considered_gives_the_verdict(case: tuple[World, Question]) -> None:
    """Deny wins, then anything that allows: the list leaves out nothing that counts, and nothing in it is wrong."""
    world, question = case
    tried = {item.name for item in world.documents if any(rule.audit for rule in item.rules)}
    for _, side, _, _, audit in _sides(world, question):
        if not side.enforced:
            continue
        matched = [item for item in side.considered if item.matched]
        if any(item.deny and item.policy not in tried for item in matched):
            expected = "deny"
        elif any(item.deny for item in matched):
            expected = None
        else:
            expected = "allow" if any(not item.deny for item in matched) else "deny"
        if expected is not None:
            assert side.verdict == expected or (expected == "deny" and side.verdict == "audit"), (side, audit)
        assert all(bool(item.matcher) is not item.matched for item in side.considered)
        if side.verdict is not Verdict.ALLOW or side.l4 is not L4.NONE:
            named = {(item.policy, item.rule) for item in side.considered}
            assert all((by.policy, by.rule) in named or by.rule == "default deny" for by in side.by)


def _covering(
    rows: dict[EntryKey, EntryValue], direction: Direction, identity: int, protocol: int, port: int
) -> EntryValue:
    """The longest-prefix match of the kernel, for one identity."""
    best: tuple[int, EntryValue] = -1, EntryValue(EntryVerdict.NONE, 0)
    for key, value in rows.items():
        shift = 16 - key.prefix_bits
        if (key.direction, key.identity) != (direction, identity) or key.protocol not in (0, protocol):
            continue
        if key.port >> shift == port >> shift:
            best = max(best, ((8 if key.protocol else 0) + key.prefix_bits, value), key=lambda item: item[0])
    return best[1]


@settings(max_examples=300)
@given(_cases())
def test_explain_and_the_kernels_rows_agree(case: tuple[World, Question]) -> None:
    world, question = case
    for direction, side, policy, peer, _ in _sides(world, question):
        if not side.enforced:
            continue
        rows = policy_entries(policy)
        found = [_covering(rows, direction, who, question.protocol, question.port) for who in (peer, 0)]
        strongest = max(value.verdict for value in found)
        assert side.l4 == ("deny" if strongest is EntryVerdict.NONE else strongest.name.lower())
        if any(value.audited for value in found):
            # Refused in earnest, or at least told of.
            assert side.verdict in ("audit", "deny")
