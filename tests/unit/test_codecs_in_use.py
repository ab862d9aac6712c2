"""S14: hostile frames meet the newest decoder of their codec, and no reader in which a weakness is known."""

import gdcm
import jpeg_ls
import numpy as np
import openjpeg
import pytest
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLSLossless, JPEGLSTransferSyntaxes

from echoplane.errors import NotAnImage
from echoplane.study import jpeg2000
from echoplane.study.dicom import parse
from echoplane.study.limits import Limits
from echoplane.study.pydicom_setup import JPEG2000_SYNTAXES, set_up_pydicom
from echoplane.study.reading import read_study
from tests import dicom_files as dicom

GREY_HW = dicom.moving_disc(1)[0]
CODESTREAM, JP2 = (openjpeg.encode(GREY_HW, use_mct=False, codec_format=kind) for kind in (0, 1))


def test_s14_jpeg_2000_and_jpeg_ls_never_reach_the_old_libraries_in_gdcm(monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_pydicom()
    assert {get_decoder(syntax).available_plugins for syntax in JPEG2000_SYNTAXES} == {("echoplane",)}
    assert {get_decoder(syntax).available_plugins for syntax in JPEGLSTransferSyntaxes} == {("pyjpegls",)}
    monkeypatch.setattr(gdcm, "Image", None)
    for frame, syntax in ((CODESTREAM, JPEG2000Lossless), (jpeg_ls.encode_array(GREY_HW), JPEGLSLossless)):
        data = dicom.encoded_clip([bytes(frame)], (1, *GREY_HW.shape), syntax)
        assert np.array_equal(read_study(data).only.frames.grey([0])[0], GREY_HW)


def test_s14_openjpeg_gets_the_codestream_and_not_the_jp2_file_around_it() -> None:
    assert JP2.startswith(b"\0\0\0\x0cjP  ")
    assert jpeg2000.codestream(JP2) == CODESTREAM == jpeg2000.codestream(CODESTREAM)
    at = JP2.index(b"jp2c") - 4
    long_size = (1).to_bytes(4, "big") + b"jp2c" + (len(CODESTREAM) + 16).to_bytes(8, "big")
    assert jpeg2000.codestream(JP2[:at] + long_size + CODESTREAM + b"rest") == CODESTREAM
    assert jpeg2000.codestream(JP2[:at] + bytes(4) + b"jp2c" + CODESTREAM) == CODESTREAM, "0: to the end"


@pytest.mark.parametrize(
    "frame",
    [b"", b"\xff\x4f", JP2[:12], JP2[:40], JP2[:12] + bytes(8), JP2[:12] + b"\0\0\0\x01jp2h" + bytes(8)],
    ids=["nothing", "a start", "a signature", "cut", "a box of size 0", "a long box of size 0"],
)
def test_s14_a_frame_without_a_codestream_is_damaged(frame: bytes) -> None:
    with pytest.raises(NotAnImage, match="does not begin with a codestream"):
        jpeg2000.codestream(frame)


def test_s14_a_frame_in_a_jp2_file_is_read_all_the_same() -> None:
    data = dicom.encoded_clip([JP2], (1, *GREY_HW.shape), JPEG2000)
    assert np.array_equal(read_study(data).only.frames.grey([0])[0], GREY_HW)
    assert np.array_equal(parse(data, Limits()).pixel_array, GREY_HW)
