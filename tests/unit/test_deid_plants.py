"""The corpus of planted identifiers, kind by kind (cases D1 to D7): none is left in the header that is built."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from benchmarks.deid_plants import Plant, file_of, leaks, plants
from echoplane.deid import instance
from echoplane.deid.header import rebuild
from tests.unit.test_deid_builder import KEY

PLANTS = plants()
KINDS = ("day", "cut day", "age", "characteristic", "own id", "own name", "number", "name", "code")


def rebuilt(plant: Plant) -> Dataset:
    original = dcmread(BytesIO(file_of(plant)))
    context, _ = instance._context(original, "ultrasound", KEY, plant.policy)
    return rebuild(original, context)


@pytest.mark.parametrize("kind", KINDS)
def test_no_plant_is_left_in_a_header(kind: str) -> None:
    planted = [plant for plant in PLANTS if plant.kind == kind]
    assert planted
    assert [plant.values for plant in planted if leaks(plant, rebuilt(plant))] == []
