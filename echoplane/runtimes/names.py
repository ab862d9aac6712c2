"""How a model is run: names of runtimes and precisions, and the settings that evaluation records and serving keeps."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import BundleError

RuntimeName = Literal["openvino", "onnxruntime"]
Precision = Literal["auto", "f32", "bf16"]
Device = Literal["cpu"]
DEFAULT_THREADS = 2
"""Cores for one study. The same number in evaluation and serving gives the same sums to the last bit."""

MAX_THREADS = 64
"""More come from no evaluation of ours, and thousands would keep a service busy with starting them."""


class InferenceSettings(BaseModel):
    """What runs a model. The same settings give the same answers; evaluation records them and serving keeps to them."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    runtime: RuntimeName = "openvino"
    device: Device = "cpu"
    precision: Precision = "auto"
    """auto is bf16 on a processor that computes in it, else f32."""
    threads: int = Field(default=DEFAULT_THREADS, ge=1, le=MAX_THREADS)
    """Cores for one study."""

    def overridden(self, **overrides: Any) -> "InferenceSettings":
        """These settings with those of `overrides` that are not empty: "", 0 and None follow the settings."""
        insisted = {name: value for name, value in overrides.items() if value}
        return InferenceSettings.model_validate(self.model_dump() | insisted)


def recorded_settings(record: Mapping[str, Any]) -> InferenceSettings:
    """The settings in an evaluation or in a registered version's tags.

    Raises BundleError if runtime, precision or threads is missing or unknown: a model is never run otherwise than it
    was evaluated. Records of echoplane 0.1.0 have no device; it was the CPU.
    """
    try:
        named = {name: record[name] for name in ("runtime", "precision", "threads")}
        return InferenceSettings.model_validate(named | {"device": record.get("device", "cpu")})
    except (KeyError, ValidationError):
        message = "the evaluation names no runtime, precision and threads that are known here; evaluate again."
        raise BundleError(message) from None
