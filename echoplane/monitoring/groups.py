"""Groups that an answered study belongs to: its site, and its scanner's manufacturer and model."""

from collections import Counter
from collections.abc import Collection, Sequence

from echoplane.monitoring.prediction_log import Row

MAX_GROUPS = {"site": 24, "manufacturer": 8, "model": 16}
"""Maximum number of groups of each kind per model in service; it bounds labels and memory. Others share one."""
OTHER, NOT_STATED = "other", "not stated"


def groups_of(row: Row, known: Collection[str]) -> list[str]:
    """Returns the groups of a row, one of each kind, such as "site lakeside"; `known` are those that exist already."""
    values = {
        "site": row.site,
        "manufacturer": row.manufacturer or NOT_STATED,
        "model": " ".join(filter(None, (row.manufacturer, row.device_model))) if row.device_model else NOT_STATED,
    }
    count = Counter(kind_of(group) for group in known)
    return [_bounded(kind, value, known, count[kind]) for kind, value in values.items()]


def _bounded(kind: str, value: str, known: Collection[str], count: int) -> str:
    group = f"{kind} {value}"
    return group if group in known or count < MAX_GROUPS[kind] else f"{kind} {OTHER}"


def kind_of(group: str) -> str:
    """Returns the kind of a group: "site" for "site lakeside"."""
    return group.partition(" ")[0]


def in_words(groups: Sequence[str]) -> str:
    """Returns where studies changed, in words: the groups, or all studies if there are none."""
    return ", ".join(groups) or "all studies"
