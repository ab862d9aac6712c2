"""De-identification of one instance in memory: structure, policy, header, pixels, file meta, in that order."""

import hmac
import re
from dataclasses import dataclass, replace
from io import BytesIO

import numpy as np
from pydicom import dcmread, dcmwrite
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import MPEG2MPHL, MPEG2MPML, UID, ExplicitVRLittleEndian

from echoplane import __version__
from echoplane.deid import bulk, pixels, regions, rules, structure, values, verify
from echoplane.deid.context import Context
from echoplane.deid.header import dataset_of, element_of, rebuild, strings
from echoplane.deid.key import Key
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import FileRejected
from echoplane.deid.regions import Mask, Region
from echoplane.deid.stored import Geometry
from echoplane.study.pydicom_setup import set_up_pydicom

IMPLEMENTATION_UID = "2.25.207435610958476521936384217349054167362"
_VIDEO_PREFIXES = ("1.2.840.10008.1.2.4.10",)
_VIDEO = frozenset((MPEG2MPML, MPEG2MPHL))
_NOTED_SHARE = 0.01  # of the scan, blackened as text
_CHARACTER_SET = "ISO_IR 192"
_METHOD, _NO_SEAL = f"echoplane {__version__}\\".encode(), b"0" * 64
# CID 7050
_MEANINGS = {
    "113100": "Basic Application Confidentiality Profile",
    "113101": "Clean Pixel Data Option",
    "113105": "Clean Descriptors Option",
    "113106": "Retain Longitudinal Temporal Information Full Dates Option",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
    "113108": "Retain Patient Characteristics Option",
    "113109": "Retain Device Identity Option",
    "113111": "Retain Safe Private Option",
    "113112": "Retain Institution Identity Option",
}
STATED = frozenset(_MEANINGS.values()) | rules.private_creators()
_PLACEHOLDERS = frozenset(
    ("ANON", "ANONYMIZED", "ANONYMISED", "ANONYMOUS", "DUMMY", "EMERGENCY", "NA", "NIL", "NN", "NOID", "NONE",
     "NOTFOUND", "NOTSET", "NOTKNOWN", "NULL", "TEMP", "TEST", "TRAUMA", "UNBEKANNT", "UNDEFINED", "UNIDENTIFIED",
     "UNK", "UNKNOWN", "UNSPECIFIED", "INCONNU", "DESCONOCIDO", "SCONOSCIUTO", "NEW", "NEWPATIENT", "NOPATIENTID")
)  # fmt: skip
_LONGITUDINAL = {"shift": "MODIFIED", "remove": "REMOVED", "keep": "UNMODIFIED"}
_TAGS = {
    keyword: Tag(keyword)
    for keyword in (
        "SpecificCharacterSet", "PatientIdentityRemoved", "DeidentificationMethod", "BurnedInAnnotation",
        "LongitudinalTemporalInformationModified", "PatientName", "PatientID", "CodeValue",
        "SOPInstanceUID", "SeriesInstanceUID",
        "CodingSchemeDesignator", "CodeMeaning",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Instance:
    """De-identified instance in memory, and the data needed to verify it."""

    context: Context
    original: Dataset
    dataset: Dataset
    shape: Geometry | None
    mask: Mask | None
    flags: tuple[str, ...]
    scan_blackened: float = 0.0
    """Share of the scan that was blackened as text, 0 to 1."""

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    def to_bytes(self) -> bytes:
        """Returns the file (PS3.10): an empty preamble, new file meta, and the data set with a seal.

        The seal is an HMAC tag over the whole file, in DeidentificationMethod.
        """
        buffer = BytesIO()
        dcmwrite(buffer, self.dataset, enforce_file_format=True)
        unsealed = buffer.getvalue()
        seal = _seal(unsealed, self.context.key, self.context.policy)
        return unsealed.replace(_METHOD + _NO_SEAL, _METHOD + seal, 1)


def expected_of(context: Context) -> verify.Expected:
    """Returns the values that the verifier accepts in addition to the lists."""
    return verify.Expected(
        pseudonym=context.pseudonym,
        shift_days=context.shift_days,
        sentences=STATED,
        extra_words=context.extra_words,
        kept=rules.retained(context.policy),
    )


def _seal(unsealed: bytes, key: Key, policy: Policy) -> bytes:
    return key.seal(policy.model_dump_json().encode() + b"\0" + unsealed)


def own_output(data: bytes, key: Key, policy: Policy) -> Dataset | None:
    """Returns the header of a file that this version has written with this key and policy, unchanged; else None."""
    start = data.find(_METHOD) + len(_METHOD)
    end = start + len(_NO_SEAL)
    if start < len(_METHOD):
        return None
    expected = _seal(data[:start] + _NO_SEAL + data[end:], key, policy)
    return dcmread(BytesIO(data), stop_before_pixels=True) if hmac.compare_digest(data[start:end], expected) else None


def read(data: bytes, policy: Policy) -> tuple[Dataset, UID]:
    """Checks the structure of a file, then parses it; also returns its transfer syntax.

    Raises FileRejected if the file is incomplete, or if its transfer syntax is not supported.
    """
    set_up_pydicom()
    meta = structure.read_meta(data)
    syntax = meta.transfer_syntax
    if syntax in _VIDEO or syntax.startswith(_VIDEO_PREFIXES):
        raise FileRejected("video")
    if structure.is_deflated(syntax):
        plain = structure.inflate(data, meta, policy.max_file_mib << 20)
        end = structure.check(plain, 0, ExplicitVRLittleEndian, policy.max_depth)
        return read_dataset(BytesIO(plain[:end]), is_implicit_VR=False, is_little_endian=True), syntax
    if syntax not in pixels.NATIVE | pixels.DECODED | {UID("1.2.840.10008.1.2.4.50")}:
        raise FileRejected("transfer-syntax")
    end = structure.check(data, meta.start, syntax, policy.max_depth)
    return dcmread(BytesIO(data if end == len(data) else data[:end])), syntax


def object_class(dataset: Dataset, policy: Policy) -> str:
    """Returns the object class whose allow list applies. Raises FileRejected if the policy refuses the SOP class."""
    if "DirectoryRecordSequence" in dataset:  # a DICOMDIR names its class in the file meta alone
        raise FileRejected("dicomdir")
    found = rules.sop_classes().get("".join(strings(dataset, 0x00080016)[:1]), "sop-class")
    if found in policy.classes:
        return found
    raise FileRejected(
        found if found in ("report", "encapsulated-document", "secondary-capture", "dicomdir", "video") else "sop-class"
    )


def clean(
    data: bytes, key: Key, policy: Policy, accepted: bool = False, text_blocks: np.ndarray | None = None
) -> Instance:
    """De-identifies one file in memory.

    accepted: a person has accepted the pixels; all rules of the header apply all the same. text_blocks: blocks of 8 x 8
    pixels to blacken in any case, as (rows, columns)."""
    original, syntax = read(data, policy)
    kind = object_class(original, policy)
    context, flags = _context(original, kind, key, policy)
    built = rebuild(original, context)
    for keyword in ("PatientName", "PatientID"):  # type 2: present even if the original has none
        built[_TAGS[keyword]] = _statement(keyword, context.pseudonym)
    if kind == "ecg":
        bulk.copy_waveforms(original, built)
        _finish(built, policy, ExplicitVRLittleEndian, pixels_clean=False)
        return Instance(context, original, built, None, None, flags)
    shape = pixels.geometry(original, policy)
    region = _region(original, kind, shape, accepted)
    if region is not None and text_blocks is not None:
        region = replace(region, text_blocks=text_blocks)
    cleaned = pixels.clean(original, syntax, shape, region, accepted)
    bulk.copy_palette(original, built)
    _add_pixels(built, cleaned)
    _finish(built, policy, cleaned.transfer_syntax, pixels_clean=cleaned.searched)
    return Instance(
        context,
        original,
        built,
        shape,
        cleaned.mask,
        flags + (("accepted",) if accepted else _pixel_flags(cleaned, region)),
        cleaned.scan_blackened,
    )


def _pixel_flags(cleaned: pixels.CleanPixels, region: Region | None) -> tuple[str, ...]:
    if cleaned.mask is None or region is None:
        return ()
    flags = {
        "region-found": region.doubt is not None,
        "region-of-device": region.by_device,
        "text-masked": cleaned.mask.text_blocks is not None,
        "text-on-second-look": region.text_blocks is not None,
        "does-not-move": not cleaned.moves,
        "text-not-excluded": cleaned.doubtful,
        "scan-blackened": cleaned.scan_blackened > _NOTED_SHARE,
    }
    return tuple(flag for flag, raised in flags.items() if raised)


def _finish(built: Dataset, policy: Policy, transfer_syntax: UID, pixels_clean: bool) -> None:
    _state_what_was_done(built, policy, pixels_clean)
    _add_file_meta(built, transfer_syntax)


def _context(original: Dataset, kind: str, key: Key, policy: Policy) -> tuple[Context, tuple[str, ...]]:
    given = _patient_id(original)
    patient = "" if _is_placeholder(given) else given
    own = values.collect(original, key, policy)
    study = "".join(strings(original, 0x0020000D)[:1])
    if not study or not strings(original, 0x00080018)[:1] or not strings(original, 0x00080018)[0]:
        raise FileRejected("malformed")
    # two patients without an id must not become one: each such study gets its own pseudonym
    identity = patient or f"study {study}"
    context = Context(
        object_class=kind,
        key=key,
        policy=policy,
        own=own,
        pseudonym=key.pseudonym(identity),
        shift_days=0 if policy.dates == "keep" or _has_shifted_dates(original, key) else key.shift_days(identity),
        folded_id=key.folded_id(patient) if patient else None,
        extra_words=frozenset(word.upper() for word in policy.extra_words),
    )
    return context, _identity_flags(original, given, patient, key)


def _identity_flags(original: Dataset, given: str, patient: str, key: Key) -> tuple[str, ...]:
    if key.issued_pseudonym(given) and not _has_shifted_dates(original, key):
        return ("pseudonym-as-id",)
    return () if patient else ("placeholder-patient-id",) if given else ("no-patient-id",)


def _is_placeholder(patient_id: str) -> bool:
    """Returns True for ids that mean "no id" and that many patients may share: UNKNOWN, 000, XXX, N/A."""
    letters = re.sub(r"[\W_]", "", patient_id).upper()
    return bool(patient_id) and (set(letters) <= {"0"} or set(letters) == {"X"} or letters in _PLACEHOLDERS)


def _has_shifted_dates(original: Dataset, key: Key) -> bool:
    """Returns True if the file is an earlier output of this key, so that its dates are shifted already.

    Then its UIDs were issued by the key too, unlike those of a research scan that was made under a pseudonym.
    """
    uids = ["".join(strings(original, _TAGS[keyword])[:1]) for keyword in ("SOPInstanceUID", "SeriesInstanceUID")]
    issued = all(key.issued_uid(uid) for uid in uids if uid) and any(uids)
    return issued and key.issued_pseudonym(_patient_id(original))


def _patient_id(original: Dataset) -> str:
    """Returns the patient's id, decoded with its character set, so that one id is one patient in every encoding.

    Raises FileRejected if it has several values, because many patients may share one of them."""
    undecoded = strings(original, _TAGS["PatientID"])
    value = original.get("PatientID")
    decoded = [str(each) for each in (value if isinstance(value, MultiValue) else [value or ""])]
    # wrong character set: two ids must not become equal because of replacement characters
    wrong = isinstance(value, bytes) or any("\ufffd" in each for each in decoded)
    parts = [part for part in (each.strip("\0 ") for each in (undecoded if wrong else decoded)) if part]
    if len(parts) > 1:
        raise FileRejected("malformed")
    return "".join(parts)


def _region(original: Dataset, kind: str, shape: Geometry, accepted: bool) -> Region | None:
    if kind == "ultrasound":
        region = regions.region_of(original, shape.rows, shape.columns)
        return None if accepted and region.doubt is not None else region
    if original.get("BurnedInAnnotation") == "YES" and not accepted:
        raise FileRejected("burned-in")
    return None


def _add_pixels(built: Dataset, cleaned: pixels.CleanPixels) -> None:
    for keyword, value in cleaned.attributes.items():
        setattr(built, keyword, value)
    encapsulated = cleaned.transfer_syntax.is_encapsulated
    built.add_new(0x7FE00010, "OB" if encapsulated else "OW", cleaned.value)
    built["PixelData"].is_undefined_length = encapsulated


def _state_what_was_done(built: Dataset, policy: Policy, pixels_clean: bool) -> None:
    """Adds the statements on the de-identification (PS3.15 E.1.1 step 9, PS3.3 C.7.1.1, C.12.1.1)."""
    done = {
        "113100": True,
        "113101": pixels_clean,
        "113105": policy.descriptors,
        "113106": policy.dates == "keep",
        "113107": policy.dates == "shift",
        "113108": policy.patient_characteristics,
        "113109": policy.device_identity,
        "113111": policy.safe_private,
        "113112": policy.institution_identity,
    }
    stated = {
        "SpecificCharacterSet": _CHARACTER_SET,
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": (_METHOD + _NO_SEAL).decode(),
        "LongitudinalTemporalInformationModified": _LONGITUDINAL[policy.dates],
    } | ({"BurnedInAnnotation": "NO"} if pixels_clean else {})
    for keyword, value in stated.items():
        built[_TAGS[keyword]] = _statement(keyword, value)
    built.set_original_encoding(False, True, convert_encodings(_CHARACTER_SET))
    built.DeidentificationMethodCodeSequence = [_code(code) for code, applied in done.items() if applied]


def _statement(keyword: str, value: str) -> RawDataElement:
    return element_of(_TAGS[keyword], dictionary_VR(_TAGS[keyword]), value.encode())


def _code(value: str) -> Dataset:
    code = {"CodeValue": value, "CodingSchemeDesignator": "DCM", "CodeMeaning": _MEANINGS[value]}
    return dataset_of({_TAGS[keyword]: _statement(keyword, text) for keyword, text in code.items()})


def _add_file_meta(built: Dataset, transfer_syntax: UID) -> None:
    """Adds new file meta (PS3.10 7.1); nothing of the old file meta or preamble is carried over."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = built.SOPClassUID
    meta.MediaStorageSOPInstanceUID = built.SOPInstanceUID
    meta.TransferSyntaxUID = transfer_syntax
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = f"ECHOPLANE_{__version__}"[:16]
    built.file_meta = meta
    built.preamble = b"\0" * 128
