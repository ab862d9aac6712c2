"""Groups that an answered study belongs to: its site, and its scanner's manufacturer and model."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from echoplane.monitoring.prediction_log import Row

MAX_GROUPS = {"site": 24, "manufacturer": 8, "model": 16}
"""Maximum number of groups of each kind per model in service; it bounds labels and memory. Others share one."""
OTHER, NOT_STATED = "other", "not stated"


def groups_of(rows: Iterable[Row], known: Iterable[str]) -> list[tuple[str, ...]]:
    """Returns the groups of each row, one of each kind, such as "site lakeside"; `known` are those that exist
    already."""
    seen = set(known)
    found: dict[tuple[str, str, str], tuple[str, ...]] = {}
    groups = []
    for row in rows:
        key = (row.site, row.manufacturer, row.device_model)
        if key not in found:
            found[key] = _groups(*key, seen)
            seen.update(found[key])
        groups.append(found[key])
    return groups


def _groups(site: str, manufacturer: str, model: str, known: Collection[str]) -> tuple[str, ...]:
    values = {
        "site": site,
        "manufacturer": manufacturer or NOT_STATED,
        "model": " ".join(filter(None, (manufacturer, model))) if model else NOT_STATED,
    }
    count = Counter(kind_of(group) for group in known)
    return tuple(_bounded(kind, value, known, count[kind]) for kind, value in values.items())


def _bounded(kind: str, value: str, known: Collection[str], count: int) -> str:
    group = f"{kind} {value}"
    return group if group in known or count < MAX_GROUPS[kind] else f"{kind} {OTHER}"


def kind_of(group: str) -> str:
    """Returns the kind of a group: "site" for "site lakeside"."""
    return group.partition(" ")[0]


def in_words(groups: Sequence[str]) -> str:
    """Returns where studies changed, in words: the groups, or all studies if there are none."""
    return ", ".join(groups) or "all studies"
