"""Metrics of a fleet, as a file for the textfile collector of Prometheus' node_exporter.

Labels are bounded: channels and tasks of the plans, and ids of devices. The file holds times instead of ages, so that
an age goes on growing if the file is no longer written.
"""

from collections import Counter

from echoplane.edge.fleet_view import STANDS, DeviceView, Fleet, RolloutView
from echoplane.edge.policy import Share
from echoplane.edge.rollout import RINGS
from echoplane.exposition import Definition, Values, exposition

OTHER = "other"
"""Label of a channel without a plan: a device may report any."""
MIB = 1 << 20
ROLLOUT, DEVICE = ("channel", "task"), ("channel", "device")
DEFINITIONS = (
    Definition("echoplane_edge_status_timestamp_seconds", "gauge", "Time at which the fleet was looked at."),
    Definition(
        "echoplane_edge_repository_expires_timestamp_seconds",
        "gauge",
        "Time after which devices no longer follow the repository unless it is refreshed.",
    ),
    Definition(
        "echoplane_edge_unreadable_reports", "gauge", "Files that are no report of the device that their name says."
    ),
    Definition(
        "echoplane_edge_devices",
        "gauge",
        "Devices by ring and state; `behind` serves a bundle, but not yet the one that the plan wants.",
        (*ROLLOUT, "ring", "state"),
    ),
    Definition("echoplane_edge_refused_ratio", "gauge", "Share of the devices that tried and refused.", ROLLOUT),
    Definition("echoplane_edge_rollout_halted", "gauge", "1 if the roll-out is halted, 0 if not.", ROLLOUT),
    Definition(
        "echoplane_edge_rollout_since_timestamp_seconds",
        "gauge",
        "Time at which the present ring was opened to the offered bundle.",
        (*ROLLOUT, "ring"),
    ),
    Definition(
        "echoplane_edge_answers",
        "gauge",
        "Answers of all devices since they took the bundle; `bundle` is offered or stable.",
        (*ROLLOUT, "bundle"),
    ),
    Definition("echoplane_edge_abstained", "gauge", 'Those of them that were "cannot tell".', (*ROLLOUT, "bundle")),
    Definition(
        "echoplane_edge_last_seen_timestamp_seconds",
        "gauge",
        "Time at which a device's last report arrived; 0 if it has never reported.",
        DEVICE,
    ),
    Definition("echoplane_edge_free_bytes", "gauge", "Free space of a device.", DEVICE),
    Definition("echoplane_edge_waiting_bytes", "gauge", "Size of the results that wait on a device.", DEVICE),
    Definition("echoplane_edge_needs_look", "gauge", "1 if the page says why a person should look, 0 if not.", DEVICE),
)


def fleet_exposition(fleet: Fleet) -> bytes:
    """Returns the metrics of `fleet` as Prometheus reads them."""
    return exposition(DEFINITIONS, fleet_values(fleet))


def fleet_values(fleet: Fleet) -> Values:
    """Returns the values of each metric."""
    planned = {one.channel for one in fleet.rollouts}
    devices = [((one.channel if one.channel in planned else OTHER, one.device), one) for one in fleet.devices]
    offered = [((one.channel, one.task), one) for one in fleet.rollouts if one.plan.candidate]
    return {
        "echoplane_edge_status_timestamp_seconds": [((), fleet.at.timestamp())],
        "echoplane_edge_repository_expires_timestamp_seconds": [((), fleet.expires.timestamp())],
        "echoplane_edge_unreadable_reports": [((), len(fleet.unreadable))],
        "echoplane_edge_devices": _counts(fleet),
        "echoplane_edge_refused_ratio": [(labels, one.tally.refused_share) for labels, one in offered if one.tally],
        "echoplane_edge_rollout_halted": [(labels, float(_is_halted(one))) for labels, one in offered],
        "echoplane_edge_rollout_since_timestamp_seconds": [
            ((*labels, one.plan.candidate.ring), one.plan.candidate.since.timestamp())
            for labels, one in offered
            if one.plan.candidate
        ],
        "echoplane_edge_answers": [(labels, share.of) for labels, share in _shares(fleet)],
        "echoplane_edge_abstained": [(labels, share.count) for labels, share in _shares(fleet)],
        "echoplane_edge_last_seen_timestamp_seconds": [
            (labels, one.seen.timestamp() if one.seen else 0) for labels, one in devices
        ],
        "echoplane_edge_free_bytes": [
            (labels, one.free_mib * MIB) for labels, one in devices if one.free_mib is not None
        ],
        "echoplane_edge_waiting_bytes": [(labels, one.waiting_mib * MIB) for labels, one in devices if one.seen],
        "echoplane_edge_needs_look": [(labels, float(bool(one.troubles))) for labels, one in devices],
    }


def _is_halted(rollout: RolloutView) -> bool:
    return bool(rollout.plan.candidate and rollout.plan.candidate.halted)


def _counts(fleet: Fleet) -> list[tuple[tuple[str, ...], float]]:
    """Counts the devices of every task of the plans, by ring and state; states without a device count 0."""
    found = Counter(key for one in fleet.devices for key in _keys(one))
    return [
        ((one.channel, one.task, ring, stand), found[one.channel, one.task, ring, stand])
        for one in fleet.rollouts
        for ring in RINGS
        for stand in STANDS
    ]


def _shares(fleet: Fleet) -> list[tuple[tuple[str, ...], Share]]:
    return [((one.channel, one.task, name), share) for one in fleet.rollouts for name, share in one.answered.items()]


def _keys(device: DeviceView) -> list[tuple[str, str, str, str]]:
    return [(device.channel, one.task, device.ring, one.stand) for one in device.tasks]
