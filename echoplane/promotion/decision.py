"""Decision of the promotion gate, and the form in which it is stored, signed and read again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from echoplane.errors import BundleError, wrong_field
from echoplane.evaluation.record import Figure
from echoplane.markdown import inline
from echoplane.promotion.policy import Policy


@dataclass(frozen=True)
class Check:
    """One check: the value found against its limit, and a sentence that explains it."""

    name: str
    passed: bool
    value: float
    limit: float
    sentence: str


@dataclass(frozen=True)
class Decision:
    passed: bool
    reasons: tuple[Check, ...]

    def as_markdown(self) -> str:
        """Returns the decision as Markdown, failed checks first."""
        failed = [check for check in self.reasons if not check.passed]
        said = "passed the model" if self.passed else f"refused the model by {len(failed)} checks"
        rows = [*failed, *(check for check in self.reasons if check.passed)]
        return "\n".join(
            [
                f"# The gate {said}",
                "",
                "| check | outcome | found | limit | in words |",
                "|---|---|---|---|---|",
                *(
                    f"| {inline(c.name)} | {'passed' if c.passed else '**failed**'} | {c.value:.4g} | {c.limit:.4g} "
                    f"| {inline(c.sentence)} |"
                    for c in rows
                ),
                "",
            ]
        )


class StoredDecision(BaseModel):
    """The content of `decision.json`: a decision with its policy and what it was made on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    passed: bool
    reasons: tuple[Check, ...]
    bundle_id: str
    task: str
    champion: str | None
    """Id of the bundle that the model was compared with; None if there was none."""
    policy: Policy
    figures: dict[str, Figure]
    """Figures of the evaluation, by name."""
    provenance: dict[str, Any]
    """Origin of the bundle, for people."""

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "StoredDecision":
        """Reads a stored decision. Raises BundleError if a part is missing or unknown: what a policy asks for must
        never be guessed."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            raise BundleError(
                f"the stored decision is not of this version of echoplane ({wrong_field(error)}); run `promote` again."
            ) from None

    def as_data(self) -> dict[str, Any]:
        """Returns the content of `decision.json`."""
        return self.model_dump(mode="json", by_alias=True)
