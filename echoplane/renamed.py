"""Accepts the setting names of version 0.1.0 for one more version: in files, bundles, parameters and options."""

from typing import Any

from pydantic import BaseModel, model_validator

RENAMED = {
    "fewest_workers": "min_workers",
    "least_frames": "min_frames",
    "least_group_patients": "min_group_patients",
    "least_patients": "min_patients",
    "least_shared": "min_shared",
    "most_studies": "max_studies",
}
"""Current name by former name. A name that a model does not have is left unchanged, and refused as unknown."""


class AcceptsFormerNames(BaseModel):
    """A model whose fields may also be given under their former names."""

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {RENAMED[name] if RENAMED.get(name) in cls.model_fields else name: value for name, value in data.items()}


def former_names(field: str) -> list[str]:
    """Returns the former names of `field`."""
    return [former for former, name in RENAMED.items() if name == field]
