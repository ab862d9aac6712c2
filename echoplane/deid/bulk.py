"""Bulk data other than pixels: palettes and waveforms, each truncated to the length that its description states.

A longer value could hold anything after the last number, so the rest is dropped. A shorter one is rejected.
"""

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from echoplane.deid.reasons import FileRejected
from echoplane.deid.stored import palette, word_order

_COLOURS = ("Red", "Green", "Blue")
_SAMPLE_BYTES = {"SB": 1, "UB": 1, "MB": 1, "AB": 1, "SS": 2, "US": 2, "SL": 4, "UL": 4}


def copy_palette(original: Dataset, built: Dataset) -> None:
    """Copies the three colour tables as little endian words (PS3.3 C.7.9)."""
    if built.get("PhotometricInterpretation") != "PALETTE COLOR":
        return
    for colour, table in zip(_COLOURS, palette(original, word_order(original)), strict=True):
        value = table.astype("<u2" if table.itemsize == 2 else np.uint8).tobytes()
        name = f"{colour}PaletteColorLookupTableData"
        built.add(DataElement(original[name].tag, "OW", value + b"\0" * (len(value) % 2)))


def copy_waveforms(original: Dataset, built: Dataset) -> None:
    """Copies the samples of every multiplex group (PS3.3 C.10.9); annotations are never copied."""
    for source, target in zip(original.get("WaveformSequence") or (), built.get("WaveformSequence") or (), strict=True):
        sample_bytes = _SAMPLE_BYTES.get(str(source.get("WaveformSampleInterpretation")))
        channels, samples = source.get("NumberOfWaveformChannels"), source.get("NumberOfWaveformSamples")
        data = source.get("WaveformData")
        if not (sample_bytes and channels and samples and data) or len(data) < channels * samples * sample_bytes:
            raise FileRejected("malformed")
        value = data[: channels * samples * sample_bytes]
        if word_order(original) == ">" and sample_bytes > 1:
            value = np.frombuffer(value, f">u{sample_bytes}").astype(f"<u{sample_bytes}").tobytes()
        target.add(DataElement(0x54001010, "OW", value + b"\0" * (len(value) % 2)))
