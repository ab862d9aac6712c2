"""S3: a small file can't expand to gigabytes through several layers: one budget counts them all."""

import io
import mmap
import zipfile
import zlib

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from echoplane.errors import InputError, TooLarge
from echoplane.study.expansion import expansion_budget, spend
from echoplane.study.limits import MIB
from echoplane.study.reading import read_study
from serving.api.decoding import process

ZEROS = 60 * MIB


def deflated_bomb(size: int = ZEROS) -> bytes:
    """A deflated DICOM file of some kB whose data set inflates to `size` bytes."""
    uid = DeflatedExplicitVRLittleEndian.encode()
    uid += b"\0" * (len(uid) % 2)
    element = b"\x02\0\x10\0UI" + len(uid).to_bytes(2, "little") + uid
    length = b"\x02\0\0\0UL\x04\0" + len(element).to_bytes(4, "little")
    pack = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    content = pack.compress(b"\x09\0\x10\0OB\0\0" + size.to_bytes(4, "little"))
    for _ in range(size // MIB):
        content += pack.compress(bytes(MIB))
    return bytes(128) + b"DICM" + length + element + content + pack.flush()


def zipped(count: int) -> bytes:
    data, bomb = io.BytesIO(), deflated_bomb()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            archive.writestr(f"{number}.dcm", bomb)
    return data.getvalue()


def shared(data: bytes) -> mmap.mmap:
    memory = mmap.mmap(-1, len(data))
    memory[:] = data
    return memory


def test_s3_a_zip_of_deflated_bombs_is_refused_by_the_sum_of_its_layers() -> None:
    data = zipped(6)
    assert len(data) < 4 * MIB
    with expansion_budget(256 * MIB), pytest.raises(TooLarge, match="expands to more than 256 MiB"):
        read_study(data)


def test_s3_the_service_allows_256_mib_to_one_file() -> None:
    assert process.MAX_EXPANDED_BYTES == 256 * MIB
    refused = process.Reader().answer({"size": len(zipped(6))}, None, shared(zipped(6)))
    assert refused["error"] == "TooLarge"
    assert "256 MiB" in refused["message"]


def test_a_few_expanded_files_stay_within_the_budget() -> None:
    with expansion_budget(256 * MIB), pytest.raises(InputError) as refused:
        read_study(zipped(1))
    assert not isinstance(refused.value, TooLarge)


def test_an_outer_budget_stays_in_force_and_ends_with_its_caller() -> None:
    with expansion_budget(10):
        spend(8)
        with expansion_budget(1000), pytest.raises(TooLarge):
            spend(8)
    spend(1 << 40)
