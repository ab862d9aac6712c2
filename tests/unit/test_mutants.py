"""The list of mutants fits the code: each changes a line that is there, and names a test that is there."""

import pytest

from tests.mutants import CHECKOUT, MUTANTS, Mutant, is_stale


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.room}-{mutant.new.strip()[:40]}")
def test_a_mutant_changes_one_place_and_names_a_test(mutant: Mutant) -> None:
    assert not is_stale(mutant, CHECKOUT)
    file, name = mutant.test.split("::")
    assert f"def {name.split('[')[0]}(" in (CHECKOUT / file).read_text()
