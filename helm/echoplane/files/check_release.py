"""`helm test`: the registry answers, every task of the service has a model, the gateway stores an instance. Says what
is missing."""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any


def get(url: str) -> bytes:
    """Returns the body of an answer, also of one that says `not ready`."""
    try:
        with urllib.request.urlopen(url, timeout=20) as response:  # noqa: S310 (the chart's own addresses)
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return error.read()
        raise


def store(host: str) -> None:
    """Sends an instance to the gateway, which must store it. Its modality is in no rule, so no archive hears of it."""
    from pynetdicom import AE
    from pynetdicom.sop_class import SecondaryCaptureImageStorage

    entity = AE(ae_title=os.environ["GATEWAY_CALLING"])
    entity.add_requested_context(SecondaryCaptureImageStorage)
    port = int(os.environ["GATEWAY_PORT"])
    association = entity.associate(host, port, ae_title=os.environ["GATEWAY_CALLED"], tls_args=tls(host))
    status = association.send_c_store(instance()).get("Status") if association.is_established else None
    if status != 0:
        reason = "no association" if status is None else f"status 0x{status:04X}"
        sys.exit(f"the gateway did not store an instance ({reason}): see its log.")
    association.release()
    print("the gateway stores an instance")


def tls(host: str) -> "tuple[ssl.SSLContext, str] | None":
    """Returns what an association over TLS needs: the gateway's own certificate stands for a sender's."""
    folder = os.environ.get("GATEWAY_TLS")
    if not folder:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # its name is the one that senders know, not that of the chart's Service
    context.check_hostname = False
    context.load_verify_locations(f"{folder}/ca.crt")
    context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    return context, host


def instance() -> Any:
    """Returns a black picture of nobody."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Helm^Test", "HELM-TEST", "HELMTEST"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 8, 8, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    dataset.PixelData = bytes(64)
    dataset["PixelData"].VR = "OB"
    return dataset


try:
    get(os.environ["MLFLOW"] + "/health")
    print("MLflow answers")
    slots = json.loads(get(os.environ["SERVING"] + "/readyz"))["slots"]
except urllib.error.URLError as error:
    sys.exit(f"no answer: {error.reason}. Serving has an address only once a pod has a model; see its log.")
if "GATEWAY" in os.environ:
    store(os.environ["GATEWAY"])
for slot in slots:
    print(slot["task"], "has a model" if slot["ready"] else "has no model: /v1/models says why")
sys.exit(not all(slot["ready"] for slot in slots))
