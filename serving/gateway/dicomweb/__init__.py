"""DICOMweb of the gateway (PS3.18): STOW-RS into the store, QIDO-RS and WADO-RS for what it holds."""

PATH = "/dicomweb/studies"
DICOM_JSON = "application/dicom+json"
