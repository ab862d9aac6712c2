"""Other tools on the same files, each in an environment of its own under build/peers, each with its own default."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import deid_orthanc

PEERS = Path(__file__).resolve().parents[1] / "build" / "peers"
TIMEOUT_S = 300
ORTHANC = "orthanc"
_BODY = """
import json, sys, time, warnings, logging
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
source, target = sys.argv[1:]
{setup}
start = time.perf_counter()
{work}
print(json.dumps(time.perf_counter() - start))
"""


@dataclass(frozen=True)
class Peer:
    """A package of PyPI and how its documentation calls it, in two steps: what is loaded once, what a file takes."""

    package: str
    setup: str
    work: str


TOOLS = {
    "dicom-anonymizer": Peer(
        "dicom-anonymizer==2.1.0",
        "from dicomanonymizer import anonymize",
        "anonymize(source, target, {}, True)",
    ),
    "deid": Peer(
        "deid==0.4.13",
        """from pathlib import Path
import deid.data, pydicom
from deid.config import DeidRecipe
from deid.dicom import DicomCleaner, get_identifiers, replace_identifiers
rules = str(Path(deid.data.__file__).parent / "deid.dicom.ultrasound")
recipe = DeidRecipe(rules)""",
        """folder = str(Path(target).parent / "deid-clean"); Path(folder).mkdir(exist_ok=True)
client = DicomCleaner(output_folder=folder, deid=rules)
flagged = client.detect(source)
if flagged["flagged"]:
    client.clean()
    cleaned = client.save_dicom()
else:
    cleaned = source
found = get_identifiers([cleaned])
done = replace_identifiers([cleaned], deid=recipe, ids=found, save=False, remove_private=True)
done[0].save_as(target)""",
    ),
    "dicognito": Peer(
        "dicognito==0.19.0",
        "import pydicom\nfrom dicognito.anonymizer import Anonymizer\nanonymizer = Anonymizer()",
        "dataset = pydicom.dcmread(source)\nanonymizer.anonymize(dataset)\ndataset.save_as(target)",
    ),
    "dcmanon": Peer(
        "dcmanon==0.3.1",
        "import dcmanon\nanonymizer = dcmanon.Anonymizer()",
        "open(target, 'wb').write(bytes(anonymizer.anonymize(source)))",
    ),
}


NAMES = (*TOOLS, ORTHANC)


def run(name: str, source: Path, target: Path) -> float | None:
    """Seconds that the tool took for this file, its own start left out; None where it did not write one."""
    if name == ORTHANC:
        return deid_orthanc.run(source, target, PEERS / name)
    peer = TOOLS[name]
    python = _environment(name, peer)
    program = _BODY.format(setup=peer.setup, work=peer.work)
    command = [str(python), "-c", program, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode or not target.exists():
        sys.stderr.write(f"{name}: {done.stderr.strip().splitlines()[-1:]}\n")
        return None
    return float(json.loads(done.stdout.strip().splitlines()[-1]))


def _environment(name: str, peer: Peer) -> Path:
    python = PEERS / name / "bin" / "python"
    if not python.exists():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(PEERS / name)], check=True)
        subprocess.run([uv, "pip", "install", "-q", "--python", str(python), peer.package], check=True)
    return python
