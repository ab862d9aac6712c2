"""De-identification of header and pixels (PS3.15 annex E), verified on the written file."""

from echoplane.deid.accept import accept
from echoplane.deid.files import deidentify_file
from echoplane.deid.folder import deidentify_folder
from echoplane.deid.key import Key, load_key
from echoplane.deid.outcome import Outcome, Report
from echoplane.deid.policy import Policy

__all__ = ["Key", "Outcome", "Policy", "Report", "accept", "deidentify_file", "deidentify_folder", "load_key"]
