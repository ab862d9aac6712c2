"""Names of runtimes and precisions, and the inference settings that evaluation records and serving follows."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import BundleError

RuntimeName = Literal["openvino", "onnxruntime", "tensorrt", "triton"]
Precision = Literal["auto", "f32", "bf16", "f16"]
Device = Literal["cpu", "gpu", "server"]
DEFAULT_THREADS = 2
"""Cores per study. The same number in evaluation and serving gives bit-identical sums."""

MAX_THREADS = 64
"""Maximum number of threads. No evaluation uses more, and thousands would keep a service busy starting them."""


class InferenceSettings(BaseModel):
    """Settings that run a model. The same settings give the same answers; evaluation records them and serving follows
    them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    runtime: RuntimeName = "openvino"
    device: Device = "cpu"
    """Place where the runtime computes: this processor, this machine's GPU, or a Triton server."""
    precision: Precision = "auto"
    """Arithmetic; auto is bf16 on a processor that supports it, f16 in TensorRT, otherwise f32."""
    threads: int = Field(default=DEFAULT_THREADS, ge=1, le=MAX_THREADS)
    """Cores per study."""

    def overridden(self, **overrides: Any) -> "InferenceSettings":
        """Returns these settings with the non-empty values of `overrides`; "", 0 and None keep the setting."""
        insisted = {name: value for name, value in overrides.items() if value}
        return InferenceSettings.model_validate(self.model_dump() | insisted)


def recorded_settings(record: Mapping[str, Any]) -> InferenceSettings:
    """Returns the settings recorded in an evaluation or in a registered version's tags.

    Raises BundleError if runtime, precision or threads is missing or unknown, since a model must run as it was
    evaluated. Records of echoplane 0.1.0 have no device; it was the CPU.
    """
    try:
        named = {name: record[name] for name in ("runtime", "precision", "threads")}
        return InferenceSettings.model_validate(named | {"device": record.get("device", "cpu")})
    except (KeyError, ValidationError):
        message = "the evaluation names no runtime, precision and threads that are known here; evaluate again."
        raise BundleError(message) from None
