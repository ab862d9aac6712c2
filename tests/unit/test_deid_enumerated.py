"""Values that say how pixels are read stay, whatever else they resemble."""

import pytest

from tests.unit.test_deid_builder import echo, run, written


@pytest.mark.parametrize(
    "changes",
    [
        {"PatientBirthDate": "19480422"},
        {"StudyDate": "20240422"},
        {"PatientID": "422"},
        {"PatientID": "10918"},
        {"PatientBirthDate": "19180910"},
        {"PatientName": "Full^Ybr"},
    ],
)
def test_what_the_pixels_mean_is_kept_if_it_looks_like_a_day_an_id_or_a_name(changes, tmp_path):
    clip = echo(LossyImageCompression="01", LossyImageCompressionMethod="ISO_10918_1", **changes)
    found = written(run(clip, tmp_path), tmp_path)
    assert found.PhotometricInterpretation == "YBR_FULL_422"
    assert found.LossyImageCompressionMethod == "ISO_10918_1"


def test_a_name_in_place_of_such_a_value_is_removed(tmp_path):
    found = written(run(echo(LossyImageCompressionMethod="ROSALINDE"), tmp_path), tmp_path)
    assert not found.get("LossyImageCompressionMethod")
