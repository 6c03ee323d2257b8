"""Every seed of the fuzzers, and whatever they have found, through its target."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import NAMES
from tests.fuzz.regressions import REGRESSIONS, Regression, is_known
from tests.fuzz.seeds import OWN, SOURCES, Source, seeds_of
from tests.fuzz.targets import TARGETS
from tests.parsers.http1.test_corpus import CORPUS, need


@pytest.mark.parametrize("source", SOURCES, ids="/".join)
def test_seeds_find_nothing_wrong(source: Source) -> None:
    if source.file != OWN and not (CORPUS / source.file).is_dir():
        need(source.file)
    target, count = TARGETS[source.target], 0
    for count, seed in enumerate(seeds_of(source), 1):  # noqa: B007
        try:
            target(seed.data)
        except Exception as error:
            if is_known(source.target, error):
                pytest.xfail(str(error))
            error.add_note(f"{source.target} on {seed.name}: {seed.data.hex()}")
            raise
    assert count


@pytest.mark.parametrize("found", REGRESSIONS, ids=lambda found: f"{found.target}: {found.reason}")
def test_what_was_found_stays_mended(found: Regression, request: pytest.FixtureRequest) -> None:
    if found.open_as:
        request.applymarker(pytest.mark.xfail(reason=found.reason, strict=True))
    TARGETS[found.target](found.data)


def test_every_target_has_seeds_of_our_own() -> None:
    assert {source.target for source in SOURCES if source.file == OWN} == set(TARGETS)
    for target in TARGETS:
        assert len(list(seeds_of(Source(target, OWN)))) > 2


def test_the_command_knows_all_targets() -> None:
    assert tuple(TARGETS) == NAMES
