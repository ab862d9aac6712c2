"""Transcoding of JPEG coefficients in memory through libjpeg: decode to coefficients, change, encode.

The library is the libjpeg-turbo of Pillow's wheel (or the system's libjpeg.so.62), called with ctypes. Its interface,
version 62 of 1998, is frozen, and the library checks the size of the structures passed to it. Nothing is dequantised,
so unchanged coefficients stay identical, and no picture is written to a temporary file. libjpeg ends the process on an
error in the stream, so callers must pass only streams that `jpeg.parse` has checked and another decoder has decoded.
"""

import ctypes
import ctypes.util
from collections.abc import Callable
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np

from echoplane.errors import ConfigError

_VERSION, _DECOMPRESS_BYTES, _COMPRESS_BYTES = 62, 632, 520
_POINTER = ctypes.sizeof(ctypes.c_void_p)
_MEMORY_MANAGER = 8  # offset of cinfo.mem
_ACCESS_BLOCKS = 64  # offset of jpeg_memory_mgr.access_virt_barray
_COLOUR_SPACE = 60  # offset of jpeg_decompress_struct.jpeg_color_space
_WARNINGS, _OUTPUT_MESSAGE = 128, 16  # offsets in jpeg_error_mgr
_ERROR_BYTES = 256
GREY, RGB, YCC = 1, 2, 3

_p, _i, _ul = ctypes.c_void_p, ctypes.c_int, ctypes.c_ulong
_SIGNATURES: dict[str, list[type]] = {
    "jpeg_CreateDecompress": [_p, _i, ctypes.c_size_t],
    "jpeg_CreateCompress": [_p, _i, ctypes.c_size_t],
    "jpeg_mem_src": [_p, ctypes.c_char_p, _ul],
    "jpeg_mem_dest": [_p, _p, _p],
    "jpeg_read_header": [_p, _i],
    "jpeg_read_coefficients": [_p],
    "jpeg_write_coefficients": [_p, _p],
    "jpeg_copy_critical_parameters": [_p, _p],
    "jpeg_finish_compress": [_p],
    "jpeg_finish_decompress": [_p],
    "jpeg_destroy_compress": [_p],
    "jpeg_destroy_decompress": [_p],
    "jpeg_std_error": [_p],
}
_ACCESS = ctypes.CFUNCTYPE(_p, _p, _p, ctypes.c_uint, ctypes.c_uint, _i)
_SILENT = ctypes.CFUNCTYPE(None, _p)(lambda _: None)  # libjpeg would write its warnings to stderr

# arguments: colour space, and per component (rows of blocks, columns of blocks, 64 coefficients) to change in place
Change = Callable[[int, list[np.ndarray]], None]


@cache
def _library() -> ctypes.CDLL:
    for path in _candidates():
        library = ctypes.CDLL(path)
        if all(hasattr(library, name) for name in _SIGNATURES):
            for name, arguments in _SIGNATURES.items():
                getattr(library, name).argtypes = arguments
            library.jpeg_read_coefficients.restype = _p
            library.jpeg_std_error.restype = _p
            return library
    raise ConfigError("no libjpeg.so.62 was found; install Pillow's wheel, which carries one")


def _candidates() -> list[str]:
    try:
        files = metadata.files("pillow") or []
    except metadata.PackageNotFoundError:
        files = []
    bundled = [
        str(Path(str(file.locate()))) for file in files if file.name.startswith("libjpeg-") and ".so.62" in file.name
    ]
    system = ctypes.util.find_library("jpeg")
    return bundled + ([system] if system and system.endswith(".62") else [])


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.free.argtypes = [_p]
    return libc


def transcode(stream: bytes, blocks: list[tuple[int, int]], change: Change) -> tuple[bytes, int]:
    """Returns `stream` with its coefficients changed by `change`, and the number of the decoder's warnings.

    blocks: rows and columns of blocks of each component, from `jpeg.parse`."""
    library = _library()
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    library.jpeg_std_error(error)
    ctypes.memmove(ctypes.addressof(error) + _OUTPUT_MESSAGE, ctypes.byref(_SILENT), _POINTER)
    reader, writer = _structure(error, 1024), _structure(error, 1024)
    library.jpeg_CreateDecompress(reader, _VERSION, _DECOMPRESS_BYTES)
    library.jpeg_CreateCompress(writer, _VERSION, _COMPRESS_BYTES)
    target, size = ctypes.c_void_p(), ctypes.c_ulong()
    try:
        library.jpeg_mem_src(reader, stream, len(stream))
        library.jpeg_read_header(reader, 1)
        arrays = library.jpeg_read_coefficients(reader)
        change(
            ctypes.c_int.from_buffer(reader, _COLOUR_SPACE).value,
            [_view(reader, arrays, index, *shape) for index, shape in enumerate(blocks)],
        )
        library.jpeg_mem_dest(writer, ctypes.byref(target), ctypes.byref(size))
        library.jpeg_copy_critical_parameters(reader, writer)
        library.jpeg_write_coefficients(writer, arrays)
        library.jpeg_finish_compress(writer)
        return ctypes.string_at(target, size.value), ctypes.c_long.from_buffer(error, _WARNINGS).value
    finally:
        library.jpeg_destroy_compress(writer)
        library.jpeg_destroy_decompress(reader)
        _libc().free(target)


def _structure(error: ctypes.Array[ctypes.c_char], size: int) -> ctypes.Array[ctypes.c_char]:
    structure = ctypes.create_string_buffer(size)
    ctypes.c_void_p.from_buffer(structure).value = ctypes.addressof(error)
    return structure


def _view(reader: ctypes.Array[ctypes.c_char], arrays: int, index: int, rows: int, columns: int) -> np.ndarray:
    """Returns a view of the library's memory for one component, as (rows of blocks, columns of blocks, 64)."""
    manager = ctypes.c_void_p.from_buffer(reader, _MEMORY_MANAGER).value or 0
    access = _ACCESS(ctypes.c_void_p.from_address(manager + _ACCESS_BLOCKS).value or 0)
    array = ctypes.c_void_p.from_address(arrays + index * _POINTER).value
    first = access(ctypes.addressof(reader), array, 0, 1, 1)
    starts = np.ctypeslib.as_array((ctypes.c_size_t * rows).from_address(first))
    stride = int(starts[1] - starts[0]) if rows > 1 else columns * 128
    if np.any(np.diff(starts) != stride) or stride != columns * 128:
        raise MemoryError("libjpeg holds the coefficients in more than one piece")
    memory = (ctypes.c_int16 * (stride // 2 * rows)).from_address(int(starts[0]))
    return np.ctypeslib.as_array(memory).reshape(rows, -1, 64)
