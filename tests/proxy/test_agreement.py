"""Explanations and the model of the kernel's programs never disagree about a connection between two addresses."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from bpf.model import TO_PROXY, judge
from config.policy.explain import L4, Question, explain
from config.policy.parties import find_party
from config.policy.resolved import Direction, Protocol
from proxy.datapath import desired_state
from tests.config.policy import generated

_ADDRESSES = [*generated.INSIDE, *generated.OUTSIDE]
_V4 = [text for text in _ADDRESSES if ":" not in text]
_V6 = [text for text in _ADDRESSES if ":" in text]


@settings(max_examples=300)
@given(st.data())
def test_explain_and_the_model_agree(data: st.DataObject) -> None:
    world = data.draw(generated.worlds())
    family = st.sampled_from(data.draw(st.sampled_from([_V4, _V4, _V6])))
    source, destination = data.draw(family), data.draw(family)
    protocol = data.draw(st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.SCTP]))
    port = data.draw(st.sampled_from([53, 80, 81, 443, 501, 8080, 65535]))
    one, other = (find_party(text, world.snapshot) for text in (source, destination))
    explanation = explain(world, Question(one, other, protocol, port))
    state = desired_state(world.snapshot, {}, [])
    judgement = judge(state, ip_address(source), ip_address(destination), protocol, port)
    assert (judgement.source_identity, judgement.destination_identity) == (one.identity, other.identity)
    said = "deny" if judgement.verdict < 0 else "audit" if judgement.audited else "allow"
    assert explanation.verdict == said
    sides = {Direction.EGRESS: explanation.egress, Direction.INGRESS: explanation.ingress}
    if judgement.verdict >= 0:
        redirected = any(side.l4 is L4.REDIRECT for side in sides.values())
        assert (judgement.verdict == TO_PROXY) is redirected
    for direction, number in judgement.rules.items():
        origin = world.snapshot.origins.get(number)
        if origin is not None and origin.file:
            # The rule that events name is one of those that the explanation names, or one that it calls to judge.
            matched = {(item.policy, item.rule) for item in sides[Direction(direction)].considered if item.matched}
            assert (origin.name, origin.rule) in matched
