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
KINDS = (
    "day",
    "cut day",
    "age",
    "characteristic",
    "own id",
    "own name",
    "number",
    "name",
    "code",
    "short day",
    "birth",
)


def rebuilt(plant: Plant) -> Dataset:
    original = dcmread(BytesIO(file_of(plant)))
    context, _ = instance._context(original, "ultrasound", KEY, plant.policy)
    return rebuild(original, context)


@pytest.mark.parametrize("kind", KINDS)
def test_no_plant_is_left_in_a_header(kind: str) -> None:
    planted = [plant for plant in PLANTS if plant.kind == kind]
    assert planted
    assert [plant.values for plant in planted if leaks(plant, rebuilt(plant))] == []


def test_numbers_that_are_a_day_by_chance_stay_where_they_count_images_and_stages() -> None:
    values = {"InstanceNumber": "704", "StageNumber": "2", "NumberOfStages": "4", "HeartRate": "66"}
    plant = Plant("chance", ("Gray^Ian", "004031775", "19440402", "20250704"), values, {}, PLANTS[0].policy)
    built = rebuilt(plant)
    assert {name: str(built[name].value) for name in values} == values
