"""A document that cannot be enforced must not leave open what it was about."""

from __future__ import annotations

import pytest

from config.policy.lockdown import Lockdown, may_select
from config.yaml_values import Value
from tests.config.policy.builders import load, policy

NAMESPACE = "k8s:io.kubernetes.pod.namespace"


def broken(**rule: Value) -> Value:
    spec: dict[str, Value] = {"endpointSelector": {"matchLabels": {"app": "x"}}, **rule}
    return {"kind": "CiliumNetworkPolicy", "metadata": {"name": "p", "namespace": "web"}, "spec": spec}


@pytest.mark.parametrize(
    ("value", "subjects", "deny"),
    [
        pytest.param(broken(), [f"app=x,{NAMESPACE}=web"], False, id="its subject"),
        pytest.param(broken(ingressDeny=[{}]), [f"app=x,{NAMESPACE}=web"], True, id="deny rules"),
        pytest.param(broken(endpointSelector="x"), [f"{NAMESPACE}=web"], False, id="subject not understood"),
        pytest.param(broken(endpointSelector=None), [f"{NAMESPACE}=web"], False, id="no subject"),
        pytest.param(
            {"kind": "CiliumNetworkPolicy", "metadata": {}, "spec": 3},
            [f"{NAMESPACE}=default"],
            True,
            id="spec not understood",
        ),
        pytest.param(
            {"kind": "CiliumNetworkPolicy", "metadata": {"namespace": 1}}, ["{}"], False, id="namespace unknown"
        ),
        pytest.param(
            {"kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "c"}, "spec": {"endpointSelector": {}}},
            ["{}"],
            False,
            id="cluster-wide",
        ),
        pytest.param(
            {
                "kind": "NetworkPolicy",
                "metadata": {"namespace": "web"},
                "spec": {"podSelector": {"matchLabels": {"app": "y"}}},
            },
            [f"app=y,{NAMESPACE}=web"],
            False,
            id="Kubernetes",
        ),
        pytest.param("words", ["{}"], False, id="no object"),
        pytest.param([{"ingressDeny": []}], ["{}"], True, id="a list with deny rules"),
    ],
)
def test_who_may_be_meant(value: Value, subjects: list[str], deny: bool) -> None:
    found = may_select(value)
    assert ([str(subject) for subject in found.subjects], found.deny) == (subjects, deny)


def test_several_specs_several_subjects() -> None:
    rules: list[Value] = [{"endpointSelector": {"matchLabels": {"app": name}}} for name in ("x", "y")]
    found = may_select({"kind": "CiliumNetworkPolicy", "metadata": {"namespace": "web"}, "specs": rules})
    assert len(found.subjects) == 2


def test_text_that_is_not_yaml_may_be_about_everybody() -> None:
    assert load("a: [").lockdowns == (Lockdown(),)
    assert load("a: [ingressDeny").lockdowns == (Lockdown(deny=True),)


def test_documents_in_force_need_no_stand_in() -> None:
    assert load(policy("endpointSelector: {}\ningress: [{fromEntities: [all]}]")).lockdowns == ()
