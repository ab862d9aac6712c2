"""The promotion gate: reads a policy, checks an evaluation against it, and returns a decision with its reasons."""

from echoplane.promotion.decision import Check, Decision, StoredDecision
from echoplane.promotion.gate import Champion, decide, paired
from echoplane.promotion.policy import Policy, ShadowDemand, read_policy

__all__ = [
    "Champion",
    "Check",
    "Decision",
    "Policy",
    "ShadowDemand",
    "StoredDecision",
    "decide",
    "paired",
    "read_policy",
]
