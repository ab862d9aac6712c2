"""QIDO-RS (PS3.18 10.6): searches the studies, series and instances that the store holds.

Attributes of patient and study are read from the files when they are asked for; the database does not hold them.
"""

import contextlib
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pydicom
from fastapi import HTTPException
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from echoplane.study.pydicom_setup import set_up_pydicom
from serving.gateway.dicomweb import PATH
from serving.gateway.store import Instance, Store

Json = dict[str, Any]
STUDY = (
    *("StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "PatientName", "PatientID"),
    *("PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "StudyDescription"),
)
SERIES = ("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime")
INSTANCE = ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames")
MAX_RESULTS = 200
"""Maximum number of results of one response."""
NOT_MATCHED = ("limit", "offset", "includefield", "fuzzymatching")


class Query:
    """Conditions of a search: values by keyword, `limit` and `offset`. Raises HTTPException 400 for another name."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.limit = min(_number(parameters, "limit", MAX_RESULTS), MAX_RESULTS)
        self.offset = _number(parameters, "offset", 0)
        self.values = {_keyword(name): value for name, value in parameters.items() if name not in NOT_MATCHED}

    def matches(self, found: Dataset) -> bool:
        return all(_matches(keyword, value, found) for keyword, value in self.values.items())

    def page(self, found: Iterable[Dataset]) -> list[Json]:
        """Returns the matching data sets of this page as JSON."""
        matching = [dataset for dataset in found if self.matches(dataset)]
        return [
            dataset.to_json_dict(suppress_invalid_tags=True)
            for dataset in matching[self.offset : self.offset + self.limit]
        ]


def _number(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(400, f"{name} must be a number")
    return int(text)


def _keyword(name: str) -> str:
    """Returns the keyword of a parameter, which may also be eight hexadecimal digits (PS3.18 8.3.4)."""
    keyword = keyword_for_tag(int(name, 16)) if _is_tag(name) else name
    if keyword not in (*STUDY, *SERIES, *INSTANCE, "ModalitiesInStudy"):
        raise HTTPException(400, "a parameter is not an attribute that can be searched for")
    return keyword


def _is_tag(name: str) -> bool:
    return len(name) == 8 and all(digit in "0123456789abcdefABCDEF" for digit in name)


def _matches(keyword: str, wanted: str, found: Dataset) -> bool:
    """Matches a list of UIDs, a range of dates, or text with the wildcards * and ? (PS3.4 C.2.2.2)."""
    element = found.get(keyword)
    values = [str(value) for value in element] if isinstance(element, MultiValue) else [str(element or "")]
    if keyword.endswith("UID"):
        return values[0] in wanted.replace("\\", ",").split(",")
    if keyword.endswith("Date") and "-" in wanted:
        first, _, last = wanted.partition("-")
        return bool(values[0]) and (first or "0") <= values[0] <= (last or "9")
    pattern = wanted.replace("[", "[[]").casefold()
    return any(fnmatch.fnmatchcase(value.casefold(), pattern) for value in values)


def studies(store: Store, site: str | None, query: Query) -> list[Json]:
    return query.page(_study(group) for group in _grouped(_found(store, site, query), lambda one: one.study_uid))


def series(store: Store, site: str | None, query: Query, study_uid: str) -> list[Json]:
    groups = _grouped(_found(store, site, query, study_uid), lambda one: one.series_uid)
    return query.page(_series(group) for group in groups)


def instances(store: Store, site: str | None, query: Query, study_uid: str, series_uid: str) -> list[Json]:
    return query.page(_instance(one) for one in _found(store, site, query, study_uid, series_uid))


def _found(store: Store, site: str | None, query: Query, study_uid: str = "", series_uid: str = "") -> list[Instance]:
    """Returns the instances by the UIDs of address and query; a list of UIDs is left to `matches`."""

    def single(keyword: str) -> str:
        value = query.values.get(keyword, "")
        return "" if "," in value or "\\" in value else value

    return store.find(site, study_uid or single("StudyInstanceUID"), series_uid or single("SeriesInstanceUID"))


def _grouped(found: list[Instance], key: Callable[[Instance], str]) -> list[list[Instance]]:
    groups: dict[str, list[Instance]] = {}
    for instance in found:
        groups.setdefault(key(instance), []).append(instance)
    return list(groups.values())


def _study(group: list[Instance]) -> Dataset:
    found = _attributes(group[0], STUDY)
    found.ModalitiesInStudy = sorted({instance.modality for instance in group})
    found.NumberOfStudyRelatedSeries = len({instance.series_uid for instance in group})
    found.NumberOfStudyRelatedInstances = len(group)
    found.RetrieveURL = f"{PATH}/{group[0].study_uid}"
    return found


def _series(group: list[Instance]) -> Dataset:
    found = _attributes(group[0], (*STUDY, *SERIES))
    found.NumberOfSeriesRelatedInstances = len(group)
    found.RetrieveURL = f"{PATH}/{group[0].study_uid}/series/{group[0].series_uid}"
    return found


def _instance(instance: Instance) -> Dataset:
    found = _attributes(instance, (*STUDY, *SERIES, *INSTANCE))
    found.RetrieveURL = instance_url(instance)
    return found


def instance_url(instance: Instance) -> str:
    return f"{PATH}/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}"


def _attributes(instance: Instance, keywords: tuple[str, ...]) -> Dataset:
    """Returns the attributes of a stored file, empty if it lacks them, in UTF-8 as JSON needs."""
    set_up_pydicom()
    found = Dataset()
    with contextlib.suppress(Exception):  # a damaged file is found by its UIDs and what comes before the damage
        header = pydicom.dcmread(instance.path, stop_before_pixels=True, specific_tags=list(keywords))
        header.decode()
        for keyword in keywords:
            if keyword in header:
                found.add(header[keyword])
    found.SpecificCharacterSet = "ISO_IR 192"
    for keyword, uid in _uids(instance).items():
        if keyword in keywords:
            setattr(found, keyword, uid)
    return found


def _uids(instance: Instance) -> dict[str, str]:
    return {
        "StudyInstanceUID": instance.study_uid,
        "SeriesInstanceUID": instance.series_uid,
        "SOPInstanceUID": instance.sop_uid,
    }
