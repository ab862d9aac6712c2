"""The bundle: the one folder that is handed from training to serving. Reading it needs only numpy."""

from echoplane.bundle.bundle import Bundle, Golden, read
from echoplane.bundle.seal import seal, write_golden
from echoplane.bundle.spec import Code, Contents, InputShape, Spec

__all__ = ["Bundle", "Code", "Contents", "Golden", "InputShape", "Spec", "read", "seal", "write_golden"]
