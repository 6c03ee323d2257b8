"""Many selectors at once must say what each says alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.policy.dns_names import canonical, selects
from config.policy.name_index import NameIndex

LABELS = st.sampled_from(["a", "b", "ab", "a-b", "_x", "io"])
NAMES = st.lists(LABELS, max_size=5).map(".".join)
GLOBS = st.lists(st.sampled_from(["*", "**", "a", "b", "a*", "*b", "a**b", "io"]), min_size=1, max_size=4).map(".".join)
SELECTORS = st.one_of(
    st.tuples(NAMES, st.just("")), st.tuples(st.just(""), st.one_of(GLOBS, GLOBS.map(lambda text: f"{text}.")))
)


@given(st.lists(SELECTORS, max_size=8), NAMES)
def test_an_index_finds_what_each_selector_finds(selectors: list[tuple[str, str]], name: str) -> None:
    expected = [place for place, (own, glob) in enumerate(selectors) if selects(canonical(own), glob, name)]
    assert sorted(NameIndex(selectors).match(name)) == expected


@pytest.mark.parametrize("name", ["a\\046b.io", "b\\000.io", "é.io", "A.io", "a b.io"])
def test_no_glob_matches_what_is_no_ordinary_name(name: str) -> None:
    index = NameIndex([("", "*"), ("", "*.io"), ("", "**.io"), ("", "*b.io"), ("", "a*.io")])
    assert list(index.match(name)) == []


def test_the_root_is_any_name() -> None:
    assert sorted(NameIndex([("", "*"), ("", "**."), ("", ""), ("", "*.io"), ("", ".")]).match("")) == [0, 1, 2, 4]


def test_ten_thousand_selectors() -> None:
    selectors = [(f"n{number}.example", "") for number in range(5000)]
    selectors += [("", f"*.z{number}.example") for number in range(5000)]
    index = NameIndex(selectors)
    assert list(index.match("n4999.example")) == [4999]
    assert list(index.match("a.z7.example")) == [5007]
    assert list(index.match("a.b.z7.example")) == []
