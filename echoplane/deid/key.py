"""Secret key of a project and the values derived from it: pseudonyms, UIDs, date shifts, digests.

All values are HMAC-SHA256 of a purpose and an input, so they are the same in every process and after every restart,
and data of two projects with different keys cannot be linked. Pseudonyms and UIDs contain a keyed checksum: those that
this key has issued are recognised and kept, so that de-identifying an output again changes nothing.
"""

import base64
import hashlib
import hmac
import logging
import os
import re
import stat
import unicodedata
import uuid
from pathlib import Path

from pydicom.uid import UID_dictionary

from echoplane.errors import ConfigError

ENVIRONMENT_VARIABLE = "ECHOPLANE_DEID_KEY"
MIN_BYTES = 32
MAX_FILE_BYTES = 1024
"""Largest key file; a longer one is something else, given by mistake."""
_LOGGER = logging.getLogger(__name__)
_EXPECTED = (
    f"one line: {2 * MIN_BYTES} hexadecimal digits or more, or a pass phrase of {MIN_BYTES} printable ASCII characters "
    "or more. Make one, once, with: (umask 077; openssl rand -hex 32 > deid.key)"
)
_MIN_DISTINCT_BYTES = 8
_ID_CHARACTERS, _CHECK_CHARACTERS = 12, 4
_CHECK_BITS = 32
_LARGEST_SHIFT_DAYS = 1825
# RFC 7914; 128 MiB and about half a second per guess of a pass phrase
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**17, 8, 1
_FINGERPRINT_N = 2**14  # the key is random or stretched already
_SCRYPT_MEMORY_BYTES = 2**28
_PRINTABLE = frozenset(range(0x20, 0x7F))
_PSEUDONYM = re.compile(rf"P-([A-Z2-7]{{{_ID_CHARACTERS}}})[A-Z2-7]{{{_CHECK_CHARACTERS}}}")
_UUID_ROOT = re.compile(r"2\.25\.(\d{30,39})", re.ASCII)


class Key:
    """De-identification key. Its repr does not show the secret; it is pickled only for worker processes."""

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_BYTES or len(set(secret)) < _MIN_DISTINCT_BYTES or _repeats(secret):
            raise ConfigError(
                f"the de-identification key has {len(secret)} bytes, or repeats itself; "
                f"{MIN_BYTES} random bytes are needed. Make one with: openssl rand -hex 32"
            )
        self._secret = secret

    def __repr__(self) -> str:
        return "Key(...)"

    def __getstate__(self) -> bytes:
        return self._secret

    def __setstate__(self, secret: bytes) -> None:
        self._secret = secret

    def _mac(self, purpose: str, data: bytes) -> bytes:
        # not hmac.digest, which accepts at most 2 GiB
        mac = hmac.new(self._secret, purpose.encode() + b"\0", "sha256")
        mac.update(data)
        return mac.digest()

    def digest(self, data: bytes) -> str:
        """Returns the keyed digest of a file, its name in reports and quarantine, which only the key can compute."""
        return self._mac("digest", data).hex()

    def fingerprint(self) -> str:
        """Returns a one-way fingerprint of the key by scrypt: it identifies the key, and guessing the key is slow."""
        return _stretched(self._secret, b"echoplane: which key is this", _FINGERPRINT_N).hex()

    def folded_id(self, patient_id: str) -> str:
        """Returns the keyed digest of an id without case, punctuation, spaces and leading zeros.

        Similar ids share it, and may be those of one patient.
        """
        folded = re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", patient_id).casefold()).lstrip("0")
        return self._mac("folded", folded.encode("utf-8", "surrogateescape")).hex()

    def seal(self, data: bytes) -> bytes:
        """Returns an HMAC tag that proves that these bytes are output of this key, as 64 hexadecimal digits."""
        return self._mac("seal", data).hex().encode()

    def pseudonym(self, patient_id: str) -> str:
        """Returns the patient's pseudonym, 'P-' and 16 base32 characters; a pseudonym of this key is kept."""
        if self.issued_pseudonym(patient_id):
            return patient_id.strip()
        return self._checked(_base32(self._mac("pseudonym", _normal(patient_id)))[:_ID_CHARACTERS])

    def _checked(self, body: str) -> str:
        return f"P-{body}{_base32(self._mac('pseudonym-check', body.encode()))[:_CHECK_CHARACTERS]}"

    def issued_pseudonym(self, text: str) -> bool:
        """Returns True if this key issued the pseudonym."""
        match = _PSEUDONYM.fullmatch(text.strip())
        return match is not None and hmac.compare_digest(self._checked(match[1]), text.strip())

    def uid(self, uid: str) -> str:
        """Returns the UID that replaces `uid` (PS3.5 B.2, 2.25 and a UUID); well-known UIDs are kept."""
        uid = uid.strip("\0 ")
        if uid in UID_dictionary or self.issued_uid(uid):
            return uid
        body = int.from_bytes(self._mac("uid", uid.encode()), "big") >> (256 - 122 + _CHECK_BITS)
        return self._checked_uid(body)

    def _checked_uid(self, body: int) -> str:
        check = int.from_bytes(self._mac("uid-check", body.to_bytes(12, "big"))[:4], "big")
        payload = body << _CHECK_BITS | check
        # RFC 9562 version 8: 48 custom bits, the version, 12 custom bits, the variant, 62 custom bits
        return (
            f"2.25.{payload >> 74 << 80 | 8 << 76 | (payload >> 62 & 0xFFF) << 64 | 2 << 62 | payload & (1 << 62) - 1}"
        )

    def issued_uid(self, uid: str) -> bool:
        """Returns True if this key issued the UID."""
        match = _UUID_ROOT.fullmatch(uid)
        if match is None or int(match[1]) >> 128:
            return False
        number = uuid.UUID(int=int(match[1])).int
        payload = number >> 80 << 74 | (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1
        return hmac.compare_digest(self._checked_uid(payload >> _CHECK_BITS), uid)

    def shift_days(self, patient_id: str) -> int:
        """Returns the number of days added to every date of the patient, always negative.

        It is derived from the pseudonym, so that a study made under the pseudonym is shifted like the patient's
        others."""
        number = int.from_bytes(self._mac("shift", self.pseudonym(patient_id).encode())[:8], "big")
        return -1 - number % _LARGEST_SHIFT_DAYS


def _normal(patient_id: str) -> bytes:
    return unicodedata.normalize("NFC", patient_id.strip("\0 ")).encode("utf-8", "surrogateescape")


def _repeats(secret: bytes) -> bool:
    """Returns True if the secret is a shorter text repeated, the last time possibly incomplete."""
    return any(secret[period:] == secret[:-period] for period in range(1, len(secret) // 2 + 1))


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode()


def load_key(path: Path | None) -> Key:
    """Returns the key from the file, else from ECHOPLANE_DEID_KEY: one line of hexadecimal digits, or a pass phrase.

    Which of the two a text was taken as is logged if it is a pass phrase, since any line of text can be one. Raises
    ConfigError if the key is missing, weak or not one line, or if everybody may write the file, so that anybody could
    replace the key. A file that everybody may read is accepted, because Kubernetes mounts Secrets so."""
    if path is not None:
        try:
            with path.open("rb") as file:
                raw, mode = file.read(MAX_FILE_BYTES + 1), os.fstat(file.fileno()).st_mode
        except OSError as error:
            raise ConfigError(f"the key file can't be read ({error.strerror}); give a readable file") from error
        if mode & stat.S_IWOTH:
            raise ConfigError(
                "everybody may write the key file; close it with chmod 600, and see that the key is yours"
            )
        return Key(_decode(raw, "the key file"))
    value = os.environ.get(ENVIRONMENT_VARIABLE)
    if not value:
        raise ConfigError(
            f"no de-identification key: give --key-file or set {ENVIRONMENT_VARIABLE}. "
            "Make one with: openssl rand -hex 32"
        )
    return Key(_decode(value.encode(), ENVIRONMENT_VARIABLE))


def _decode(raw: bytes, origin: str) -> bytes:
    """Returns the secret; printable text, also in hex, is taken as a pass phrase and stretched.

    Raises ConfigError, which names the key's `origin` and what is expected, unless it is one line of printable ASCII.
    """
    text = raw.strip()
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{origin} is larger than {MAX_FILE_BYTES} bytes, so it is no key. Expected: {_EXPECTED}")
    if not set(text) <= _PRINTABLE:
        raise ConfigError(f"{origin} is more than one line, or not plain text. Expected: {_EXPECTED}")
    if re.fullmatch(rb"(?:[0-9A-Fa-f]{2})+", text):
        text = bytes.fromhex(text.decode())
    else:
        _LOGGER.warning("%s is not hexadecimal, and is taken as a pass phrase", origin)
    if not _PRINTABLE.issuperset(text):
        return text
    Key(text)  # checks the length and for repetition
    return _stretched(text, b"echoplane: de-identification key")


def _stretched(secret: bytes, salt: bytes, cost: int = _SCRYPT_N) -> bytes:
    return hashlib.scrypt(
        secret, salt=salt, n=cost, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=_SCRYPT_MEMORY_BYTES, dklen=MIN_BYTES
    )
