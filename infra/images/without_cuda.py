"""Lets torch's CUDA build run without NVIDIA's libraries: without_cuda.py FOLDER, that of torch's own libraries.

PyPI has no CPU build of torch for Linux, and the loader asks for every function that the CUDA build might call. Each
library gets a stand-in in which every such function stops the process: without a GPU, none is called."""

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

LIBRARY = re.compile(r"\(NEEDED\).*\[(lib(?:cu(?!da)|nv|nccl)\S+)\]")
"""What torch's libraries need of NVIDIA's packages. libcuda is the driver's own, and not for us to replace."""
KEPT = "libcudart.so"
"""Tells torch that there is no GPU. Small, and stays."""
UNVERSIONED = re.compile(r"(nccl|curand|cuFile|cusparseLt|nvshmem)\w+")
"""Functions whose library gives them no version; whichever library holds them will do."""


def main(folder: Path) -> None:
    libraries = list(folder.glob("*.so*"))
    needed = {name for one in libraries for name in LIBRARY.findall(_said("readelf", "-dW", str(one)))}
    functions: dict[str, set[str]] = defaultdict(set)  # by version: as a rule the library's own name
    for one in libraries:
        for symbol in re.findall(r" U (\S+)$", _said("nm", "-D", str(one)), re.MULTILINE):
            name, _, version = symbol.partition("@")
            if version or UNVERSIONED.fullmatch(name):
                functions[version].add(name)
    for library in needed:
        if not library.startswith(KEPT):
            version = next((one for one in functions if one and one in (library, _family(library))), "")
            _write(folder / library, version, functions[version] | functions[""])


def _family(library: str) -> str:
    """libnvshmem_host.so.3 calls its version NVSHMEM."""
    return library.removeprefix("lib").split("_")[0].upper()


def _write(path: Path, version: str, names: set[str]) -> None:
    """A shared library of that name and version; each function is an illegal instruction."""
    with tempfile.TemporaryDirectory() as scratch:
        source, script, compiled = (Path(scratch) / name for name in ("a.s", "a.map", "a.o"))
        source.write_text("".join(f".globl {name}\n.type {name},@function\n{name}: ud2\n" for name in sorted(names)))
        script.write_text(f"{version} {{ global: *; }};\n")
        _said("as", str(source), "-o", str(compiled))
        _said("ld", "-shared", "-soname", path.name, f"--version-script={script}", "-o", str(path), str(compiled))


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
