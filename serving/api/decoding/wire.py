"""A study in shared memory, as JSON and arrays.

It is never pickled: a decoder that a hostile file has taken over must not run code in the service. Frames are not part
of it; they are asked for one call at a time.
"""

import json
import mmap
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from echoplane.errors import TooLarge
from echoplane.study.cine import Cine
from echoplane.study.limits import MIB
from echoplane.study.study import Identity, Instance, Region, Study
from echoplane.study.subject import Subject
from echoplane.study.views import View

KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Study, Instance, Region, Identity, View, Cine, Subject)}
ALIGNMENT = 64


def write(content: Any, memory: mmap.mmap) -> int:
    """Writes `content` and returns the length of its JSON, which is followed by the arrays. Raises TooLarge if the
    memory is too small."""
    arrays: list[np.ndarray] = []
    plain = _plain(content, arrays)
    shapes = [[array.dtype.str, array.shape] for array in arrays]
    header = json.dumps({"content": plain, "arrays": shapes}).encode()
    if _aligned(len(header)) + sum(_aligned(array.nbytes) for array in arrays) > len(memory):
        raise TooLarge(f"the study has more than {len(memory) // MIB} MiB when decoded; send less of it.")
    memory[: len(header)] = header
    start = _aligned(len(header))
    for array in arrays:
        np.ndarray(array.shape, array.dtype, memory, start)[...] = array
        start += _aligned(array.nbytes)
    return len(header)


def read(memory: mmap.mmap, length: int) -> Any:
    """Returns what `write` was given; arrays are copied out of the memory. Raises ValueError, KeyError or TypeError if
    it is malformed."""
    header = json.loads(memory[:length])
    start, arrays = _aligned(length), []
    for dtype, shape in header["arrays"]:
        kind = np.dtype(str(dtype))
        sides = tuple(map(int, shape))
        if kind.kind not in "biuf" or min(sides, default=0) < 0:
            raise ValueError("no array of numbers")
        array: np.ndarray = np.ndarray(sides, kind, memory, start)
        start += _aligned(array.nbytes)
        arrays.append(array.copy())
    return _typed(header["content"], arrays)


def _plain(value: Any, arrays: list[np.ndarray]) -> Any:
    """Returns `value` as JSON holds it; its arrays are appended to `arrays`."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value):
        named = {f.name: getattr(value, f.name) for f in fields(value) if f.name != "frames"}
        return {"kind": type(value).__name__, "fields": {name: _plain(one, arrays) for name, one in named.items()}}
    if isinstance(value, Mapping):
        return {"pairs": [[_plain(key, arrays), _plain(one, arrays)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [_plain(one, arrays) for one in value]
    return value


def _typed(plain: Any, arrays: list[np.ndarray]) -> Any:
    """Reverses `_plain`; sequences become tuples, and `frames` of an instance is None."""
    if isinstance(plain, list):
        return tuple(_typed(one, arrays) for one in plain)
    if not isinstance(plain, dict):
        return plain
    if "array" in plain:
        return arrays[plain["array"]]
    if "pairs" in plain:
        return {_typed(key, arrays): _typed(one, arrays) for key, one in plain["pairs"]}
    kind = KINDS[plain["kind"]]
    frames = {"frames": None} if kind is Instance else {}
    return kind(**frames, **{name: _typed(one, arrays) for name, one in plain["fields"].items()})


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
