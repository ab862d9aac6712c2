"""Typed JSON bodies of the service, which the client returns. Fields that a later service adds are ignored."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class Model(Body):
    """Model that answered."""

    name: str
    version: str
    bundle: str
    runtime: str
    precision: str


class Answer(Body):
    """Answer to one study; `label` is None for "cannot tell"."""

    request_id: str
    task: str
    model: Model
    label: str | None
    title: str
    confidence: float | None
    threshold: float | None
    probabilities: dict[str, float]
    timings_ms: dict[str, float]
    warnings: tuple[str, ...]
    details: dict[str, Any] = {}
    files: dict[str, str] = {}
    """Result files by name, in base64."""
    research_use: str

    def nearest(self, count: int = 2) -> list[tuple[str, float]]:
        """Returns the most probable labels with their probabilities, the highest first."""
        return sorted(self.probabilities.items(), key=lambda each: -each[1])[:count]


class Problem(Body):
    """Reason why a file got no answer (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str


class FileAnswer(Body):
    """Answer or problem of one file of a study; a file that several tasks accept has one of these for each."""

    index: int
    answer: Answer | None
    problem: Problem | None


class Explanation(Body):
    """Loss of the answer's probability for each blurred cell of the picture, by row from the top."""

    request_id: str
    task: str
    label: str
    probability: float
    losses: tuple[tuple[float, ...], ...]
