"""What a value of the header is judged by."""

from collections import Counter
from dataclasses import dataclass, field

from echoplane.deid.key import Key
from echoplane.deid.policy import Policy
from echoplane.deid.values import OwnValues


@dataclass
class Context:
    """The rules of the object's class, the key, the policy, and the patient's own values."""

    object_class: str
    key: Key
    policy: Policy
    own: OwnValues
    pseudonym: str
    shift_days: int
    folded_id: str | None = None
    """keyed digest by which ids that look alike are found; None for a file without an id"""
    actions: Counter[str] = field(default_factory=Counter)
    extra_words: frozenset[str] = frozenset()
    cleaned: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    """results of `clean_text.clean`, since frames repeat their values"""

    def note(self, keyword: str, action: str) -> None:
        """Count what was done with an attribute."""
        self.actions[f"{keyword} {action}"] += 1
