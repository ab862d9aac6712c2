"""Synthetic patients: a beating 4D heart, an ultrasound probe over it, and DICOM with invented names.

heart, landmarks, anatomy, valves, shapes   geometry and motion of the anatomy; known volumes
probe, echo                                 pose of the probe, and the simulated echo
ranges, optics                              parameters of one scan: usual, or varied for transfer to real patients
strips, strip_screen                        Doppler spectra and M-mode
styles, screen, trace                       the machine's screen
identity, patient, dicom, cohort            invented patients, and files on disk
"""

from echoplane.phantom.cohort import write_cohort, write_patient
from echoplane.phantom.dicom import write_clip
from echoplane.phantom.patient import EchoClip, Patient, make_patient, scan_echo
from echoplane.phantom.ranges import BEDSIDE, CLINIC, HAZY, USUAL, WIDE, Ranges
from echoplane.phantom.strip_screen import StripStill, scan_strip

__all__ = [
    "BEDSIDE",
    "CLINIC",
    "HAZY",
    "USUAL",
    "WIDE",
    "EchoClip",
    "Patient",
    "Ranges",
    "StripStill",
    "make_patient",
    "scan_echo",
    "scan_strip",
    "write_clip",
    "write_cohort",
    "write_patient",
]
