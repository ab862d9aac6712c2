"""Shares of the labels that a site declares: how often each occurs among its studies.

A model's probabilities hold for studies mixed as those of its training, usually with even shares. A site whose studies
differ may state it; the probabilities are then those of its own mixture (Saerens et al. 2002, Neural Comput 14:21).
Axis: K label.
"""

from collections.abc import Collection, Mapping
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from echoplane.errors import ConfigError

TOLERANCE = 0.01
"""Maximum difference of the sum of all shares from 1."""
APPLIED = "the site's label shares were applied to the probabilities"


def _sum_to_one(shares: Mapping[str, float]) -> Mapping[str, float]:
    total = sum(shares.values())
    if abs(total - 1) > TOLERANCE:
        raise ValueError(f"the shares sum to {total:.3f}; expected 1")
    return shares


LabelShares = Annotated[
    Mapping[str, Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]], AfterValidator(_sum_to_one)
]
"""Share of the studies that have each label, by the label's name."""


def read_shares(text: str) -> LabelShares:
    """Returns the shares in a JSON object. Raises ConfigError if it is none, or the shares do not sum to 1."""
    try:
        return TypeAdapter(LabelShares).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = f" of {'.'.join(map(str, first['loc']))}" if first["loc"] else ""
        why = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f'label shares{place}: {why}; expected JSON such as {{"a4c": 0.6, ...}}.') from None


def check_shares(shares: LabelShares, names: Collection[str]) -> None:
    """Raises ConfigError unless every label has a share and nothing else does."""
    if unknown := sorted(shares.keys() - set(names)):
        raise ConfigError(f"label shares: {', '.join(unknown)} is no label of the task; it has {', '.join(names)}.")
    if missing := sorted(set(names) - shares.keys()):
        raise ConfigError(f"label shares: none for {', '.join(missing)}; every label needs one, a rare one 0.001.")


def with_shares(
    probabilities_K: np.ndarray, names: Collection[str], shares: LabelShares | None, trained: LabelShares | None = None
) -> np.ndarray:
    """Returns the probabilities at a site with these shares, after training with the shares `trained`, even if None;
    the same if the site declared none."""
    if shares is None:
        return probabilities_K
    check_shares(shares, names)
    weighted_K = probabilities_K * np.array([shares[name] / (trained[name] if trained else 1) for name in names])
    return np.asarray(weighted_K / weighted_K.sum())
