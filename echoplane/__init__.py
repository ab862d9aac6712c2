"""echoplane: takes cardiac imaging studies from DICOM to answers over HTTP. Research use, not a medical device."""

__version__ = "0.1.0"
