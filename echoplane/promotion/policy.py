"""Promotion policy: the requirements that a model must meet before it serves, read from YAML."""

import os
from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from echoplane.errors import ConfigError, wrong_field
from echoplane.renamed import AcceptsFormerNames

FIXED_POLICIES = "ECHOPLANE_GATE_POLICIES"
"""Variable with the policies of an installation; on a cluster it comes from a ConfigMap of the chart."""


class ShadowDemand(BaseModel):
    """Evidence from shadow traffic that a challenger needs before it may become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    min_studies: int = Field(ge=1)
    """Minimum number of studies that both models answered."""
    min_agreement: float = Field(ge=0, le=1)
    """Minimum share of these on which both gave the same label."""
    max_failed: float = Field(default=0.01, ge=0, le=1)
    """Maximum share of offered studies on which the challenger failed."""

    def missing(self, agreed: int, differed: int, failed: int) -> list[str]:
        """Returns one sentence per demand that the counts do not meet."""
        answered, offered = agreed + differed, agreed + differed + failed
        found = []
        if answered < self.min_studies:
            found.append(f"{answered} studies were answered; at least {self.min_studies} are asked.")
        if answered and agreed / answered < self.min_agreement:
            found.append(f"{agreed} of {answered} answers agree; at least {self.min_agreement:.1%} are asked.")
        if offered and failed / offered > self.max_failed:
            found.append(f"{failed} of {offered} studies failed; at most {self.max_failed:.1%} are allowed.")
        return found


class Policy(AcceptsFormerNames):
    """Requirements that a model must meet before it serves; `echoplane/policies/TASK.yaml` explains each."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    schema_version: Literal[1] = Field(alias="schema")
    min_patients: int = Field(ge=1)
    """Minimum number of test patients."""
    floors_low: dict[str, float]
    """Minimum lower end of the 95% interval, by figure."""
    margins: dict[str, float]
    """Maximum loss against the champion by figure, at the lower end of the 95% interval of the difference."""
    min_shared: float = Field(gt=0, le=1)
    """Minimum fraction of the test samples that the champion must have answered too."""
    label_floors: dict[str, float]
    """Minimum of FIGURE/LABEL by figure, for each label with at least `min_group_patients` patients."""
    subgroup_floors: dict[str, float]
    """Minimum in each subgroup with at least `min_group_patients` patients, by figure."""
    min_group_patients: int = Field(ge=1)
    ceilings: dict[str, float]
    """Maximum value, by figure."""
    latency_p95_ms: float = Field(gt=0)
    """Maximum 95th percentile in ms of the time from a study's files to the answer, on the evaluated runtime."""
    shadow: ShadowDemand | None = None
    """Shadow evidence that a model needs before it serves; if omitted, none."""
    approval: Literal["automatic", "person"] = "automatic"
    """"person": a model that passed waits as challenger until `echoplane approve`; "automatic": it serves at once,
    unless `shadow` asks for evidence."""

    @property
    def waits(self) -> bool:
        """Returns True if a model that passed does not serve at once."""
        return self.shadow is not None or self.approval == "person"


def read_policy(task: str, source: str = "default") -> Policy:
    """Reads the task's policy in the package ("default") or that of a YAML file.

    If ECHOPLANE_GATE_POLICIES has policies, in YAML by task, only these count: whoever starts a run cannot choose its
    gate. Raises ConfigError if it is no policy, or another one is asked for.
    """
    if fixed := os.environ.get(FIXED_POLICIES):
        return _fixed_policy(fixed, task, source)
    try:
        packaged = resources.files("echoplane").joinpath(f"policies/{task}.yaml")
        text = packaged.read_text() if source == "default" else Path(source).read_text()
        return _policy(text)
    except OSError as error:
        raise ConfigError(f"the promotion policy can't be read ({error.strerror}); give a YAML file.") from None
    except UnicodeDecodeError:
        raise ConfigError("the promotion policy is no YAML; echoplane/policies has examples.") from None


def _fixed_policy(fixed: str, task: str, source: str) -> Policy:
    if source != "default":
        raise ConfigError(f"the policies of this installation are fixed ({FIXED_POLICIES}): leave `policy` out.")
    try:
        policies = yaml.safe_load(fixed)
    except yaml.YAMLError:
        raise ConfigError(f"{FIXED_POLICIES} is no YAML: give one policy by task.") from None
    if not isinstance(policies, dict) or task not in policies:
        raise ConfigError(f"{FIXED_POLICIES} has no policy of {task}, so no model of it can be promoted.")
    return _policy(yaml.safe_dump(policies[task]))


def _policy(text: str) -> Policy:
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError:
        raise ConfigError("the promotion policy is no YAML; echoplane/policies has examples.") from None
    except ValidationError as error:
        raise ConfigError(f"the promotion policy: {wrong_field(error)}") from None
