"""Attributes that decide how pixels are read, with the values that the standard enumerates.

A value of the list is kept whatever it resembles: YBR_FULL_422 is no day (22 April). Any other value is removed.
"""

ENUMERATED = {
    # PS3.3 C.7.6.3.1.2
    "PhotometricInterpretation": frozenset(
        ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422",
         "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB")
    ),
    # PS3.3 C.7.6.1.1.5.1
    "LossyImageCompressionMethod": frozenset(
        ("ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_18181_1", "ISO_13818_2", "ISO_14496_10",
         "ISO_23008_2")
    ),
    # PS3.3 C.7.6.1.1.5
    "LossyImageCompression": frozenset(("00", "01")),
    # PS3.3 C.7.3.1.1.2
    "PatientPosition": frozenset(
        ("HFP", "HFS", "HFDR", "HFDL", "FFP", "FFS", "FFDR", "FFDL", "LFP", "LFS", "RFP", "RFS", "AFP", "AFS", "AFDR",
         "AFDL", "PFP", "PFS", "PFDR", "PFDL", "SITTING")
    ),
    # PS3.3 C.8.3.1
    "MRAcquisitionType": frozenset(("1D", "2D", "3D")),
}  # fmt: skip
