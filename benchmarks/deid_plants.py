"""Identifiers planted in headers: days, ages, pieces of ids, names, codes, numbers: `python -m benchmarks.deid_plants`.

Every person is invented. A plant leaks if all of its telling tokens are still in the elements in which it was
planted; a file that is held leaks nothing, but is counted.
"""

import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from echoplane.deid import Policy, deidentify_file
from tests.unit.test_deid_builder import KEY, echo, to_bytes

SEED = 7177
Values = dict[str, object]
_TOKEN = re.compile(r"[A-Za-z]+|\d+")
_WITHOUT_CHARACTERISTICS = Policy(patient_characteristics=False)
_DEFAULT = Policy()
_TEXTS = ("StudyDescription", "SeriesDescription", "ProtocolName", "TransducerData", "StudyID")
_REGION = (
    "RegionFlags", "ReferencePixelX0", "ReferencePixelPhysicalValueX", "PhysicalDeltaX", "TransducerFrequency",
    "PulseRepetitionFrequency", "DopplerCorrectionAngle", "SteeringAngle",
)  # fmt: skip
"""Binary numbers of an ultrasound region."""
_PEOPLE = (
    ("Morgenstern^Ottilie", "SX-20-7715", "19310704", "20240521"),
    ("Hu^Wei", "A1-B2-C3", "19480317", "20231109"),
    ("Long^Petra", "MR123", "19550228", "20220705"),
    ("Smith^Ada", "90417762", "19390911", "20210612"),
    ("Gray^Ian", "004031775", "19440103", "20250218"),
)
"""Name, id, birth date and study date."""


@dataclass(frozen=True)
class Plant:
    """What is planted, in whose file, and the tokens that tell it, by keyword."""

    kind: str
    person: tuple[str, str, str, str]
    values: Values
    telling: dict[str, tuple[str, ...]]
    policy: Policy


def plants(seed: int = SEED) -> list[Plant]:
    """All plants, the same for one seed."""
    rng = random.Random(seed)  # noqa: S311
    return [
        *_days(rng), *_cut_days(rng), *_ages(rng), *_characteristics(rng), *_pieces(rng), *_numbers(rng), *_names(rng),
        *_codes(rng), *_short_days(), *_after_a_word(rng),
    ]  # fmt: skip


def _text(kind: str, person: tuple[str, str, str, str], keyword: str, text: str, policy: Policy | None = None) -> Plant:
    """One text beside a clinical word."""
    return Plant(kind, person, {keyword: f"TTE {text}"}, {keyword: tuple(_TOKEN.findall(text))}, policy or _DEFAULT)


def _days(rng: random.Random) -> Iterator[Plant]:
    for person in _PEOPLE:
        for date in person[2:]:
            for form in _day_forms(date):
                yield _text("day", person, rng.choice(_TEXTS), form)


def _day_forms(date: str) -> list[str]:
    year, short, month, day = date[:4], date[2:4], date[4:6], date[6:]
    m, d = int(month), int(day)
    english = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")[m - 1]
    roman = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")[m - 1]
    return [
        f"{d}/{m}", f"{day} {month}", f"{month}{day}", f"{day}{month}", f"{m}/{short}", f"{d}.{m}.", f"{d}-{roman}",
        f"{english} {day} {short}", f"{year}/{m}", f"{day}{month}{short}", f"{short} {month} {day}",
        f"{d}th of {english}", f"{month}-{day}", f"{day}_{month}", f"{short}-{month}",
    ]  # fmt: skip


def _cut_days(rng: random.Random) -> Iterator[Plant]:
    for person in _PEOPLE:
        for date in person[2:]:
            year, short, month, day = date[:4], date[2:4], date[4:6], date[6:]
            for parts in ((day, month, short), (short, month, day)):
                keyword = rng.choice(("SoftwareVersions", "ImageType"))
                values = ["ORIGINAL", "PRIMARY", *parts] if keyword == "ImageType" else list(parts)
                yield Plant("cut day", person, {keyword: values}, {keyword: parts}, _DEFAULT)
            whole = rng.choice((f"{short}{month}{day}", f"{day}{month}{year}"))
            number = str(int(whole))
            yield Plant("cut day", person, {"AcquisitionNumber": number}, {"AcquisitionNumber": (number,)}, _DEFAULT)
            weight = f"{date}.5"
            yield Plant("cut day", person, {"PatientWeight": weight}, {"PatientWeight": (date, "5")}, _DEFAULT)
            over = {"StageName": day, "ViewName": month}
            yield Plant("cut day", person, over, {name: (part,) for name, part in over.items()}, _DEFAULT)
            parts = (("SeriesNumber", day), ("AcquisitionNumber", month), ("InstanceNumber", short))
            over = {name: str(int(part)) for name, part in parts}
            yield Plant("cut day", person, over, {name: (part,) for name, part in over.items()}, _DEFAULT)


def _ages(rng: random.Random) -> Iterator[Plant]:
    for form in ("{}Y F", "{}Y", "AGE {}", "{}YO", "{}Y/M", "{} YRS", "F{}", "{}F", "{} Y.O.", "M/{}", "{}J", "{} ans"):
        for person in _PEOPLE[:2]:
            age = rng.randint(90, 109)
            yield _text("age", person, rng.choice(_TEXTS), form.format(age))


def _characteristics(rng: random.Random) -> Iterator[Plant]:
    for form in ("76Y F 82KG", "54YO", "82KG", "171CM", "F 61", "178 CM 90 KG", "61Y/M", "M 44Y"):
        for person in _PEOPLE[:2]:
            yield _text("characteristic", person, rng.choice(_TEXTS), form, _WITHOUT_CHARACTERISTICS)


def _pieces(rng: random.Random) -> Iterator[Plant]:
    for person in _PEOPLE:
        tokens = _TOKEN.findall(person[1])
        pieces = tokens if len(tokens) > 1 else [person[1][k : k + 3] for k in range(0, len(person[1]), 3)]
        spelled = " ".join(person[1].replace("-", ""))
        for keyword in ("SoftwareVersions", "ImageType"):
            yield Plant("own id", person, {keyword: pieces}, {keyword: tuple(pieces)}, _DEFAULT)
        for form in (" ".join(pieces), "-".join(pieces), "/".join(pieces), spelled):
            yield _text("own id", person, rng.choice(_TEXTS), form)
        over = {"StageName": "".join(pieces[:-1])[:16], "ViewName": pieces[-1]}
        yield Plant(
            "own id", person, over, {name: tuple(_TOKEN.findall(part)) for name, part in over.items()}, _DEFAULT
        )
        name = person[0].split("^")[0].upper()
        letters = ["ORIGINAL", "PRIMARY", *name]
        yield Plant("own name", person, {"ImageType": letters}, {"ImageType": tuple(name)}, _DEFAULT)
        yield _text("own name", person, rng.choice(_TEXTS), name)
        yield _text("own name", person, rng.choice(_TEXTS), " ".join(name))


def _numbers(rng: random.Random) -> Iterator[Plant]:
    for keyword in ("SeriesNumber", "ImagesInAcquisition", "AcquisitionNumber", "InstanceNumber", "HeartRate"):
        for _ in range(2):
            number = str(rng.randint(100_000_000, 2_000_000_000))
            yield Plant("number", _PEOPLE[0], {keyword: number}, {keyword: (number,)}, _DEFAULT)
    for keyword in ("PatientWeight", "FrameTime"):
        number = str(rng.randint(100_000_000, 2_000_000_000))
        yield Plant("number", _PEOPLE[0], {keyword: number}, {keyword: (number,)}, _DEFAULT)
    for word in ("Stn.", "Zimmer", "Bett:", "chambre", "kamer", "oddz."):
        place = f"{rng.choice('ABDFK')}{rng.randint(10, 98)}"
        for keyword in ("ManufacturerModelName", "TransducerData", "SoftwareVersions"):
            yield Plant("number", _PEOPLE[0], {keyword: f"{word} {place}"}, {keyword: (place,)}, _DEFAULT)
    # another hospital's id: no longer than a telephone number, but than any measurement
    for keyword in (*_REGION, "FrameTime", "WindowCenter", "PatientWeight"):
        foreign = str(rng.randint(100_000, 9_999_999) // 10 * 10 + 7)
        yield Plant("number", _PEOPLE[0], {keyword: foreign}, {keyword: (foreign,)}, _DEFAULT)


def _names(rng: random.Random) -> Iterator[Plant]:
    forms = (
        "AMIRA GALAN", "FOR LONG SHIM", "LONG", "P A U L", "M\0A\0R\0I\0A", "GRAY SHORT", "AMIRA", "ORIAN LONG", "HU",
        "FOR GRAY", "DR SHORT", "HEWLETT PACKARD", "S H I M", "A.M.I.R.A", "LUMINA ROOT", "BY LONG", "SOLA HEAD",
    )  # fmt: skip
    for form in forms:
        yield _text("name", _PEOPLE[0], rng.choice(_TEXTS), form)


def _codes(rng: random.Random) -> Iterator[Plant]:
    phone = f"0{rng.randint(100, 999)}/{rng.randint(1000000, 9999999)}"
    for value, scheme in (
        ("1931-07-04", "UCUM"), (phone, "UCUM"), ("LEE", "UCUM"), ("Ada", "UCUM"), ("19310704", "SCT"),
        ("01512345678", "SCT"), ("1931-07-04", "SCPECG"), (phone.replace("/", "."), "SCPECG"), ("LEE", "DCM"),
        ("190431", "DCM"), ("AMIRA", "DCM"), ("20240-5", "LN"), ("T-LEE01", "SRT"), ("1:70448", "MDC"),
        ("MDC_LEE", "MDC"), ("LEE", "99ECHOPLANE"), ("{Ada}", "UCUM"), ("A1-ROSA", "SNM3"), ("9304317", "SCT"),
        ("T-07041", "SRT"), ("LA0704-1", "LN"), ("P2-0771", "SRT"),
    ):  # fmt: skip
        yield Plant("code", _PEOPLE[0], {"ViewCodeSequence": (value, scheme)}, {"ViewCodeSequence": (value,)}, _DEFAULT)


def _short_days() -> Iterator[Plant]:
    """Days without year in whole numbers: 416 as a heart rate, stage 16 of 4."""
    for person in _PEOPLE:
        for date in person[2:]:
            day, month = int(date[6:]), int(date[4:6])
            rate = f"{month}{day:02}"
            yield Plant("short day", person, {"HeartRate": rate}, {"HeartRate": (rate,)}, _DEFAULT)
            size = f"{day}.{month:02}{date[:4]}"
            yield Plant("short day", person, {"PatientSize": size}, {"PatientSize": tuple(size.split("."))}, _DEFAULT)
            over: Values = {"SeriesDescription": f"run {day}", "ProtocolName": f"rest {month}"}
            if day > 12:
                telling = {"SeriesDescription": (str(day),), "ProtocolName": (str(month),)}
                yield Plant("short day", person, over, telling, _DEFAULT)
            number, total = max(day, month), min(day, month)
            if number > total:
                stages = {"StageNumber": str(number), "NumberOfStages": str(total)}
                yield Plant("short day", person, stages, {name: (value,) for name, value in stages.items()}, _DEFAULT)


def _after_a_word(rng: random.Random) -> Iterator[Plant]:
    """Numbers that only the word before them explains: the year of a birth, a weight."""
    for word in ("DOB", "born", "YOB", "geb.", "weight", "height", "BMI", "BSA", "male"):
        number = str(rng.randint(31, 99))
        keyword = rng.choice(_TEXTS)
        born = word in ("DOB", "born", "YOB", "geb.")
        policy = _DEFAULT if born else _WITHOUT_CHARACTERISTICS
        kind = "birth" if born else "characteristic"
        yield Plant(kind, _PEOPLE[0], {keyword: f"TTE {word} {number}"}, {keyword: (number,)}, policy)


def file_of(plant: Plant) -> bytes:
    """A small echo clip with the plant in its header."""
    name, patient_id, birth, study = plant.person
    dataset = echo(
        PatientName=name, PatientID=patient_id, PatientBirthDate=birth, StudyDate=study, ContentDate=study,
        AcquisitionDateTime=f"{study}101600",
    )  # fmt: skip
    for keyword, value in plant.values.items():
        if keyword == "ViewCodeSequence":
            item = dataset.ViewCodeSequence[0]
            item.CodeValue, item.CodingSchemeDesignator = value
        elif keyword in _REGION:
            setattr(dataset.SequenceOfUltrasoundRegions[0], keyword, int(str(value)))
        else:
            setattr(dataset, keyword, value)
    return to_bytes(dataset)


def leaks(plant: Plant, written: Dataset) -> bool:
    """Whether every telling token is still in its element."""
    return all(_holds(written, keyword, tokens) for keyword, tokens in plant.telling.items())


def _holds(written: Dataset, keyword: str, tokens: tuple[str, ...]) -> bool:
    if keyword == "ViewCodeSequence":
        return any(item.CodeValue == tokens[0] for item in written.get(keyword) or ())
    if keyword in _REGION:
        return any(region.get(keyword) == int(tokens[0]) for region in written.SequenceOfUltrasoundRegions)
    value = written.get(keyword)
    parts = value if isinstance(value, (list, tuple)) or hasattr(value, "append") else [value]
    left = Counter(token.upper() for part in parts for token in _TOKEN.findall(str(part or "")))
    return not Counter(token.upper() for each in tokens for token in _TOKEN.findall(each)) - left


def measure(planted: list[Plant]) -> tuple[list[Plant], list[Plant]]:
    """Those that leak, and those whose file was held."""
    leaked, held = [], []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name, "plant.dcm")
        for number, plant in enumerate(planted):
            source.write_bytes(file_of(plant))
            folder = Path(name, str(number))
            outcome = deidentify_file(source, folder, KEY, plant.policy)
            if outcome.output is None:
                held.append(plant)
            elif leaks(plant, dcmread(folder / outcome.output)):
                leaked.append(plant)
    return leaked, held


def main() -> None:
    """Print the leaks by kind."""
    planted = plants()
    leaked, held = measure(planted)
    for kind, total in Counter(plant.kind for plant in planted).items():
        count = sum(plant.kind == kind for plant in leaked)
        sys.stdout.write(f"{kind:<15} {count} of {total} leak, {sum(p.kind == kind for p in held)} held\n")
    sys.stdout.write(f"all: {len(leaked)} of {len(planted)} leak, {len(held)} held\n")
    if "-v" in sys.argv:
        for plant in leaked:
            sys.stdout.write(f"leak {plant.kind} {plant.values!r}\n")
        for plant in held:
            sys.stdout.write(f"held {plant.kind} {plant.values!r}\n")


if __name__ == "__main__":
    main()
