"""Settings keep their former names for one version."""

import pytest
from pydantic import ValidationError

from echoplane.adapters.rayjob import RayCluster
from echoplane.promotion import Policy
from echoplane.renamed import RENAMED
from echoplane.stages import dataset
from echoplane.tasks.view_video import Preprocessing


def test_a_bundle_of_version_0_1_0_states_its_shortest_clip_under_the_former_name():
    assert Preprocessing.model_validate({"least_frames": 7}).min_frames == 7


def test_a_stage_takes_a_former_name_and_refuses_one_that_belongs_to_another_stage():
    given = {"root": "r", "studies": "m.json"}
    assert dataset.Config(**given, most_studies=9).max_studies == 9
    with pytest.raises(ValidationError):
        dataset.Config(**given, fewest_workers=1)


def test_every_new_name_is_a_field_of_a_model_that_takes_the_former_one():
    fields = set().union(*(model.model_fields for model in (Policy, Preprocessing, RayCluster, dataset.Config)))
    assert set(RENAMED.values()) <= fields
