"""Description of a data set, `dataset.json` in its folder: what training and export need besides the samples."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.dataset.split import SplitRule
from echoplane.errors import ConfigError, wrong_field

DESCRIPTION = "dataset.json"


class Description(BaseModel):
    """Task, preparation and identity of a data set."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = Field(alias="schema")
    task: str
    preprocessing: dict[str, Any]
    """Complete settings of the task's preprocessing."""
    split: SplitRule
    split_id: str
    data_digest: str
    """SHA-256 of catalogue.parquet."""

    def write(self, folder: Path) -> None:
        (folder / DESCRIPTION).write_text(self.model_dump_json(by_alias=True, indent=1))

    @classmethod
    def read(cls, folder: Path) -> "Description":
        """Reads the description in the folder of a data set. Raises ConfigError if it is not one of this version."""
        try:
            return cls.model_validate_json((folder / DESCRIPTION).read_bytes())
        except ValidationError as error:
            raise ConfigError(
                f"{DESCRIPTION} is not of this version of echoplane ({wrong_field(error)}); run `dataset` again."
            ) from None
        except OSError as error:
            raise ConfigError(f"{DESCRIPTION} can't be read ({error.strerror}); run `dataset` again.") from None
