"""Recognition of public codes: each coding scheme has its own form, check digit or table (PS3.16 section 8).

Otherwise a code value could hide a date, a telephone number or a name, such as 1931-07-04 as a unit of measure.
"""

import re
from functools import cache

from echoplane.deid.rules import rows

# UCUM sections 27 to 46: a prefix, a unit, and an exponent of one digit, with the annotations that DICOM uses
_UNIT = (
    r"(?:(?:da|[yzafpnumcdhkMGT])?(?:m|g|s|l|L|Hz|Pa|V|A|W|J|N|K|T|mol|Bq|Ci|Gy|Sv|eV|B\[[mu]V\]|B|dyn|m\[Hg\]|m\[H2O\])"
    r"(?:-?\d)?|deg|rad|min|h|d|wk|mo|a|Cel|diop|ppm|1|10-6|\[100\](?:g|ml)"
    r"|\{(?:beats|bpm|Tissue|counts|SUVbw|H\.B\.)\})(?:\{(?:SUV(?:bw|ibw|lbm|bsa)|WetWeight|Tissue)\})?"
)
# Verhoeff's dihedral group and permutation (SNOMED CT technical implementation guide, check digit)
_MULTIPLY = tuple(
    tuple((a + b) % 5 + 5 * (b >= 5) if a < 5 and b < 5 else (
        (a + b) % 5 + 5 if a < 5 else ((a - b) % 5 + 5 if b < 5 else (a - b) % 5)
    ) for b in range(10))
    for a in range(10)
)  # fmt: skip
_PERMUTE = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
_CONCEPT_PARTITIONS = ("00", "10")


def is_public_code(scheme: str, value: str) -> bool:
    """Returns True if the value is a code of a listed scheme, by its form, check digit or table."""
    form = _forms().get(scheme)
    if form is None or not form.fullmatch(value):
        return False
    if value.isdigit() and scheme in ("SCT", "SRT"):
        return _is_concept(value)
    if scheme == "DCM":
        return value in _dicom_codes()
    if scheme == "LN" and value[0].isdigit():
        return _luhn(value.replace("-", ""))
    return True


@cache
def schemes() -> frozenset[str]:
    """Returns the designators of the listed coding schemes."""
    return frozenset(_forms())


@cache
def _forms() -> dict[str, re.Pattern[str]]:
    return {
        row["scheme"]: re.compile(row["form"].replace("UNIT", _UNIT), re.ASCII) for row in rows("coding_schemes.csv")
    }


@cache
def _dicom_codes() -> frozenset[str]:
    """Returns the codes of PS3.16 annex D, from pydicom's concept dictionary."""
    return frozenset(row["code"] for row in rows("dcm_codes.csv"))


def _is_concept(digits: str) -> bool:
    """Returns True for a SNOMED CT concept identifier, by its partition and its check digit."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        number = int(digit)
        for _ in range(place % 8):
            number = _PERMUTE[number]
        check = _MULTIPLY[check][number]
    return check == 0 and digits[-3:-1] in _CONCEPT_PARTITIONS


def _luhn(digits: str) -> bool:
    """Returns True if LOINC's check digit is right (modulus 10, ISO/IEC 7812-1)."""
    doubled = (int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    return sum(number - 9 if number > 9 else number for number in doubled) % 10 == 0
