"""Reads a multipart/related body of DICOM files as it arrives; each part goes to disk and never into memory whole."""

from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from serving.gateway.receiving import IncomingFile

MULTIPART, DICOM = b"multipart/related", b"application/dicom"
MAX_PARTS = 10_000
MAX_BOUNDARY = 200
"""RFC 2046 allows 70 characters; Orthanc sends 73."""


class BadBody(Exception):
    """Raised if a body or its media type is not as PS3.18 10.5 says; `status` is the HTTP status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def boundary_of(content_type: str) -> bytes:
    """Returns the boundary in a Content-Type. Raises BadBody unless that is multipart/related of DICOM files."""
    media_type, options = parse_options_header(content_type)
    if media_type != MULTIPART or options.get(b"type", DICOM).lower() != DICOM:
        raise BadBody(415, 'send multipart/related; type="application/dicom"')
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise BadBody(400, f"the Content-Type needs a boundary of 1 to {MAX_BOUNDARY} characters")
    return boundary


class Parts:
    """Parser of one body: gives each complete part to `on_file`, which must close it."""

    def __init__(
        self, boundary: bytes, new_file: Callable[[], IncomingFile], on_file: Callable[[IncomingFile], None]
    ) -> None:
        self._new_file, self._on_file = new_file, on_file
        self._file: IncomingFile | None = None
        self._count, self._ended = 0, False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finished,
            },
        )

    def write(self, data: bytes) -> None:
        """Takes a piece of the body. Raises BadBody if it is malformed."""
        try:
            self._parser.write(data)
        except FormParserError:  # its message quotes the body
            raise BadBody(400, "the multipart body is malformed") from None

    def finish(self) -> None:
        """Raises BadBody if the body ended before its last boundary."""
        if not self._ended:
            raise BadBody(400, "the multipart body is incomplete")

    def close(self) -> None:
        """Drops a part that has not ended."""
        if self._file is not None:
            self._file.discard()
            self._file = None

    def _begin(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise BadBody(400, f"the body has over {MAX_PARTS} parts")
        self._file = self._new_file()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])

    def _end(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._on_file(file)

    def _finished(self) -> None:
        self._ended = True
