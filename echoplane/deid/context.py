"""Context in which a header value is judged."""

from collections import Counter
from dataclasses import dataclass, field

from echoplane.deid.key import Key
from echoplane.deid.policy import Policy
from echoplane.deid.values import OwnValues


@dataclass
class Context:
    """Class of the object, key, policy, and the identifying values of the file."""

    object_class: str
    key: Key
    policy: Policy
    own: OwnValues
    pseudonym: str
    shift_days: int
    folded_id: str | None = None
    """Keyed digest by which similar patient ids are found; None for a file without an id."""
    actions: Counter[str] = field(default_factory=Counter)
    extra_words: frozenset[str] = frozenset()
    cleaned: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    """Cache of the results of `clean_text.clean`, because frames repeat their values."""

    def note(self, keyword: str, action: str) -> None:
        """Counts what was done with an attribute."""
        self.actions[f"{keyword} {action}"] += 1
