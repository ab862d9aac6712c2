"""Invented people and places. Every name, number and date here is made up; none belongs to a patient.

Accents are kept in the header (ISO_IR 192) and dropped on the screen, as machines with a Latin-1 screen font do.
"""

import unicodedata
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np

# fmt: off
FAMILY = (
    "Abernethy-Vale", "Bäckström", "Castellano", "Dworzak", "Eikeland", "Ferreira-Lins", "Grünwald",
    "Hollingbrook", "Iwasaka", "Jørstad", "Kováčová", "Lindenmoor", "Mbekwa", "Nørregard", "Okonjo-Hale",
    "Petrescu", "Quillfeather", "Rosenthaler", "Süssmilch", "Takamori", "Ulvestad", "Vandermolen", "Wójtasik",
    "Xanthakis", "Yarborough", "Zelenković", "Marchetti", "Thistlewood", "Achterberg", "Kallistou",
    "Penhaligon", "Drummond-Ray",
)
WOMEN = (
    "Zoë", "Agnieszka", "Beatrix", "Clémence", "Dagny", "Eleonora", "Freya", "Giulia", "Henrike", "Ingrid",
    "Josefína", "Keziah", "Lucía", "Mireille",
)
MEN = (
    "Anselm", "Bartłomiej", "Caspian", "Dimitri", "Émile", "Florian", "Gregor", "Håkon", "Ignacio", "Jürgen",
    "Kwame", "Leopold", "Matteo", "Noël",
)
HOSPITALS = (
    "Nordhaven University Hospital", "St. Aldric Heart Centre", "Klinik am Möwenberg",
    "Hospital General de Valdeluna", "Riverbend Cardiology Associates",
)
DOCTORS = (
    "Hartwell^Imogen", "Sørlie^Anders", "Achebe^Ngozi", "Villanueva^Tomás", "Brandt^Käthe", "Osei^Kofi",
)
SONOGRAPHERS = (
    "Pike^Rowan", "Lachance^Odette", "Yamane^Kei", "Bielik^Marta", "Tran^Minh",
)
# fmt: on


@dataclass(frozen=True)
class Identity:
    """Invented patient, institution and staff of an examination. `name` is in DICOM's form, Family^Given."""

    name: str
    patient_id: str
    birth_date: date
    sex: str
    hospital: str
    department: str
    referring: str
    operator: str
    accession: str
    study_start: datetime
    phone: str
    indication: str
    height_cm: int
    weight_kg: int

    @property
    def age_years(self) -> int:
        return (self.study_start.date() - self.birth_date).days // 365

    @property
    def screen_name(self) -> str:
        """Returns the name as the machine burns it in: "GRUNWALD, ZOE"."""
        return plain(self.name.replace("^", ", ")).upper()


def plain(text: str) -> str:
    """Returns ASCII text: accents dropped, letters without a plain form spelt out."""
    spelt = text.replace("ß", "ss").translate(str.maketrans("øØłŁđ", "oOlLd"))
    return unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()


def make_identity(rng: np.random.Generator, seed: int) -> Identity:
    """Returns an invented patient; the number is a bijection of the seed, so that two patients never share one."""
    sex = str(rng.choice(["F", "M"]))
    start = datetime(2021, 1, 4, 7, 30) + timedelta(days=int(rng.integers(1800)), seconds=int(rng.integers(36000)))
    number = (seed * 48271 + 7_654_321) % 99_999_989
    height_cm = int(rng.normal(164 if sex == "F" else 177, 7))
    return Identity(
        name=f"{_pick(rng, FAMILY)}^{_pick(rng, WOMEN if sex == 'F' else MEN)}",
        patient_id=f"{_pick(rng, ('NH', 'MRN', 'P', 'K-'))}{number:08d}",
        birth_date=start.date() - timedelta(days=int(rng.integers(20 * 365, 92 * 365))),
        sex=sex,
        hospital=_pick(rng, HOSPITALS),
        department=_pick(rng, ("Echo Lab 2", "Cardiology", "Noninvasive Imaging", "Herzecho")),
        referring=_pick(rng, DOCTORS),
        operator=_pick(rng, SONOGRAPHERS),
        accession=f"A{int(rng.integers(10**7, 10**8))}",
        study_start=start,
        phone=f"+00 555 {int(rng.integers(10**6, 10**7))}",
        indication=_pick(rng, ("dyspnoea", "murmur", "follow-up", "palpitations", "chest pain")),
        height_cm=height_cm,
        weight_kg=int(rng.uniform(20, 34) * (height_cm / 100) ** 2),
    )


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return str(choices[int(rng.integers(len(choices)))])
