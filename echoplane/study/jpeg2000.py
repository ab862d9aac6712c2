"""The codestream of a JPEG 2000 frame.

PS3.5 A.4.4 allows no JP2 header, yet some files wrap the codestream as a JP2 file. The wrapper is taken off before
OpenJPEG is called, so that its reader of JP2 headers, in which CVE-2025-54874 was found, never runs.
"""

from echoplane.errors import NotAnImage

START = b"\xff\x4f\xff\x51"
"""Start of codestream, then the segment of the image's size (ISO 15444-1 A.4.1, A.5.1)."""
_SIGNATURE, _CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"jp2c"


def codestream(encoded: bytes) -> bytes:
    """Returns the codestream of a frame, without the boxes of a JP2 file (ISO 15444-1 annex I).

    Raises NotAnImage if there is none.
    """
    position = 0
    while encoded.startswith(_SIGNATURE) and position + 8 <= len(encoded):
        size, kind = int.from_bytes(encoded[position : position + 4], "big"), encoded[position + 4 : position + 8]
        header = 8
        if size == 1:  # the size has eight bytes
            size, header = int.from_bytes(encoded[position + 8 : position + 16], "big"), 16
        if kind == _CODESTREAM:
            encoded = encoded[position + header : position + size if size else None]
            break
        if size < header:
            break
        position += size
    if not encoded.startswith(START):
        raise NotAnImage("a JPEG 2000 frame is damaged: it does not begin with a codestream.")
    return encoded
