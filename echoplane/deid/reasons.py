"""Reasons for which a file is rejected: the code, the status of the file, and a sentence for the reader.

`refused`: by policy this kind of file is not handled, and nothing of it is kept. `quarantined`: the file may be wanted,
but could not be proven clean; its original is kept in the quarantine for inspection by a person. The sentences are
constant, so they cannot carry a value of a file into a log, a report or an error.
"""

from echoplane.errors import InputError

REFUSED = "refused"
QUARANTINED = "quarantined"
WRITTEN = "written"

_REFUSALS = {
    "not-dicom": "The file has no DICOM preamble and prefix. Send DICOM files (PS3.10).",
    "not-a-file": "A link, a device or a socket is not read. Send regular files.",
    "too-large": "The file or its decoded pixels are larger than the policy allows. Raise the cap if that is expected.",
    "sop-class": "This SOP class has no allow list. Only the classes of the policy are de-identified.",
    "report": "Structured reports hold free text that can't be proven clean.",
    "encapsulated-document": "PDF, CDA and other encapsulated documents can't be proven clean.",
    "secondary-capture": "Secondary captures are often report pages, with text anywhere.",
    "dicomdir": "A DICOMDIR names every patient of a medium. Send the files that it lists.",
    "video": "MPEG and H.264 streams carry metadata of their own and are not transcoded.",
    "transfer-syntax": "The transfer syntax is not one that can be rewritten.",
}

_DOUBTS = {
    "truncated": "The file ends before its data do.",
    "malformed": "The file's structure contradicts itself.",
    "too-deep": "Sequences are nested deeper than any real object.",
    "wrong-transfer-syntax": "The data are not encoded as the file meta says.",
    "pixel-data": "The pixel data do not match rows, columns and frames.",
    "palette": "A colour table is missing, segmented, or not as long as it says.",
    "codec": "A frame could not be decoded, or is not of the codec and the colours that the header promises.",
    "region-missing": "The ultrasound image has no region that says where the scan ends and the text begins.",
    "region-out-of-bounds": "An ultrasound region lies outside the image.",
    "region-covers-image": "The ultrasound region covers the whole image, with whatever is written on it.",
    "burned-in": "The header says that annotations are burned into the pixels.",
    "text-in-pixels": "Text inside the scan region is still found after masking.",
    "scan-blackened": "Much of the scan would go black as text, or a tenth where no text was read; a person must look.",
    "text-in-still": "Nothing moves, and what looks like text lies over the scan; a person must look.",
    "text-in-image": "What looks like letters stands in an MR image; a person must look.",
    "verify-header": "A value of the patient was found in the written file.",
    "verify-pixels": "The written pixels outside the scan region are not black.",
    "conflict": "Another file with the same SOP Instance UID, but other contents, was written before.",
    "unreadable": "The file could not be read. See to its rights and to the disk, and run again.",
    "internal": "The file made the software fail. It was set aside; please report the software version.",
}

# reasons that a person can overrule after inspecting the pixels; those of the header cannot be overruled
ACCEPTABLE = frozenset(
    (
        "region-missing",
        "region-out-of-bounds",
        "region-covers-image",
        "burned-in",
        "text-in-pixels",
        "scan-blackened",
        "text-in-still",
        "text-in-image",
    )
)

SENTENCES = _REFUSALS | _DOUBTS

FLAGS = {
    "text-masked": "Text was found inside the scan and blackened.",
    "text-on-second-look": "Some of that text was found only in the written file; it was blackened too.",
    "text-not-excluded": "Hard edges that stand still remain, and could be letters. No claim of clean pixels.",
    "does-not-move": "A still picture, in which letters can't be told from speckle. No claim of clean pixels.",
    "accepted": "A person has looked at the pixels and released the file. No claim of clean pixels.",
    "scan-blackened": "More than 1 % of the scan was blackened as text.",
    "region-found": "The header states no usable scan region; the scan was found in the pixels.",
    "region-of-device": "The scan region is the known layout of this device.",
    "own-output": "The file was an output of this key and policy already, and is copied as it is.",
    "no-patient-id": "The file has no patient id: each such study counts as a patient of its own.",
    "placeholder-patient-id": "The id is one that many share: each such study counts as a patient of its own.",
    "pseudonym-as-id": "The patient id is a pseudonym of this key already, and is kept.",
    "similar-patient-ids": "Ids differ by case, spaces, punctuation or leading zeros alone. One patient?",
    "study-of-several-patients": "Files of one study have several patient ids.",
}
"""What each flag of a written file says to the reader."""


class FileRejected(InputError):
    """Rejected file with the reason code. It is raised inside this package; callers get an `Outcome`."""

    kind = "deid-held"

    def __init__(self, reason: str) -> None:
        super().__init__(SENTENCES[reason])
        self.reason = reason


def status_of(reason: str) -> str:
    """Returns the status of a file that is rejected for this reason."""
    return REFUSED if reason in _REFUSALS else QUARANTINED
