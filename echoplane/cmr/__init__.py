"""Output files of a measured cine MR study: measures, masks, a report, and DICOM objects."""

from echoplane.cmr.files import write_measures
from echoplane.cmr.report import write_report

__all__ = ["write_measures", "write_report"]
