"""Sets pydicom up to be silent about values, and to use the newest native decoder of each codec.

GDCM's wheels hold OpenJPEG 2.3.0 and CharLS 2.0, which are years old; both are taken off pydicom's list. GDCM still
decodes JPEG of 12 bits and lossless JPEG, for which there is no other decoder under a permissive licence.
"""

import functools
import logging
import warnings
from typing import Final

import pydicom
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner
from pydicom.pixels.decoders.pylibjpeg import _decode_frame
from pydicom.uid import HTJ2K, JPEG2000, HTJ2KLossless, HTJ2KLosslessRPCL, JPEG2000Lossless, JPEGLSTransferSyntaxes

from echoplane.study import jpeg2000

JPEG2000_SYNTAXES: Final = (JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL)
DECODER_DEPENDENCIES: Final = dict.fromkeys(JPEG2000_SYNTAXES, ("numpy", "pylibjpeg-openjpeg"))
"""Functions that pydicom requires of a module that decodes frames, beside `is_available`."""


@functools.cache
def set_up_pydicom() -> None:
    """Silences the warnings of pydicom, which quote values that must not reach a log or a terminal, and chooses its
    decoders."""
    warnings.filterwarnings("ignore", module="pydicom")
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    for syntax in JPEG2000_SYNTAXES:
        decoder = get_decoder(syntax)
        for name in decoder.available_plugins:
            decoder.remove_plugin(name)
        decoder.add_plugin("echoplane", (__name__, "decode_jpeg2000"))
    for syntax in JPEGLSTransferSyntaxes:
        get_decoder(syntax).remove_plugin("gdcm")


def is_available(syntax: str) -> bool:
    return syntax in DECODER_DEPENDENCIES


def decode_jpeg2000(encoded: bytes, runner: DecodeRunner) -> bytearray:
    """Returns the samples of one frame of JPEG 2000 as pydicom expects them."""
    samples: bytearray = _decode_frame(jpeg2000.codestream(encoded), runner)
    return samples
