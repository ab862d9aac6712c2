"""echoplane: from cardiac imaging studies to answers a lab can trust. Research use, not a medical device."""

__version__ = "0.1.0"
