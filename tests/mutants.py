"""Breaks the code in listed ways and sees a test fail: `make mutants`.

Each mutant is one change of one line that a tired person could make. The checkout is copied, the change made in the
copy, and the named test run there; a mutant that no test notices is an error, as is one whose line has gone.
`make mutants-sample` tries a part of them in five minutes, another one for each commit."""

import argparse
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.mutants_deid import DEID

CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutant:
    """`old` in `file` becomes `new`; `test` must fail. `room` is what it breaks."""

    room: str
    file: str
    old: str
    new: str
    test: str


MUTANTS: tuple[Mutant, ...] = (
    *(Mutant(*line) for line in DEID),
    Mutant(
        "monitor",
        "echoplane/monitoring/retraining.py",
        'return "" if loop.runs_left(policy, now) else "the week\'s runs are used up"\n\n\ndef why_not_start',
        'return ""\n\n\ndef why_not_start',
        "tests/unit/test_retraining.py::test_an_endless_alert_with_automatic_approval_stops_at_the_weeks_budget",
    ),
    Mutant(
        "monitor",
        "echoplane/monitoring/retraining.py",
        'allowed = ("approved",) if policy.approval == "person" else ("approved", "waiting")',
        'allowed = ("approved", "waiting")',
        "tests/unit/test_retraining.py::test_an_alert_asks_a_person_approves_and_the_command_runs_once",
    ),
    Mutant(
        "monitor",
        "serving/monitor/trigger.py",
        "        self._end_lost_runs()\n",
        "",
        "tests/unit/test_retraining.py::test_a_run_of_a_killed_monitor_counts_and_is_not_repeated",
    ),
    Mutant(
        "monitor",
        "serving/monitor/trigger.py",
        'and alert.labels.get("task") in self._tasks',
        "",
        "tests/unit/test_retraining.py::test_a_short_alert_a_resolved_one_and_those_of_others_ask_for_nothing",
    ),
    Mutant(
        "monitor",
        "echoplane/monitoring/rank_streams.py",
        ".advance(count)",
        "",
        "tests/unit/test_monitor.py::test_a_restart_in_the_middle_gives_exactly_the_evidence_of_no_restart",
    ),
    Mutant(
        "monitor",
        "echoplane/monitoring/drift.py",
        "return mean_NG.sum(axis=1) / known_N",
        "return mean_NG.sum(axis=1)",
        "tests/unit/test_monitor.py::test_groups_do_not_multiply_the_evidence",
    ),
    Mutant(
        "monitor",
        "echoplane/monitoring/compaction.py",
        "rows and not unread and",
        "rows and",
        "tests/unit/test_compaction.py::test_a_day_that_is_young_or_not_read_whole_waits",
    ),
    Mutant(
        "gateway",
        "serving/gateway/store.py",
        'stored["digest"] != header.digest',
        "False",
        "tests/unit/test_gateway.py"
        "::test_a_repeated_instance_is_stored_once_and_other_content_under_its_uid_is_refused",
    ),
    Mutant(
        "gateway",
        "serving/gateway/queue.py",
        "(SELECT 1 FROM work WHERE work.study = studies.id AND kind = 'answer' AND state = 'waiting')",
        "(SELECT 1 FROM work WHERE FALSE)",
        "tests/unit/test_gateway.py::test_a_study_is_complete_after_its_quiet_time_and_again_if_it_grows",
    ),
    Mutant(
        "gateway",
        "serving/gateway/retention.py",
        "receiving = 0 AND committed = 0 AND",
        "receiving = 0 AND",
        "tests/unit/test_gateway.py::test_a_study_that_the_gateway_has_committed_to_is_never_removed",
    ),
    Mutant(
        "gateway",
        "serving/gateway/dicomweb/routes.py",
        "wado.files(store.find(who.site, study,",
        "wado.files(store.find(None, study,",
        "tests/unit/test_gateway_dicomweb.py::test_a_site_sees_its_own_studies_alone",
    ),
    Mutant(
        "retry",
        "echoplane/retry.py",
        "retry_if_exception_type((RegistryUnavailable, StoreUnavailable))",
        "retry_if_exception_type(RegistryUnavailable)",
        "tests/unit/test_retry.py::test_a_registry_and_a_store_that_come_back_are_waited_for_aloud",
    ),
    Mutant(
        "cluster",
        "echoplane/adapters/ray_manifest.py",
        'f"{round(1000 * cpu)}m"',
        'f"{max(1, round(cpu))}"',
        "tests/unit/test_rayjob.py::test_pods_may_ask_for_parts_of_a_core_and_ray_still_places_a_worker_on_each",
    ),
    Mutant(
        "processes",
        "echoplane/parent.py",
        "def main(command: Sequence[str]) -> int:\n",
        "def main(command: Sequence[str], end_with_parent=str) -> int:\n",
        "tests/unit/test_parent.py::test_a_killed_parent_leaves_nothing_behind",
    ),
    Mutant(
        "processes",
        "echoplane/processes.py",
        "process.kill()",
        "process.is_alive()",
        "tests/unit/test_processes.py::test_ctrl_c_ends_the_workers_at_once_and_none_of_them_complains",
    ),
    Mutant(
        "privacy",
        "echoplane/deid/instance.py",
        "    set_up_pydicom()\n",
        "",
        "tests/unit/test_deid_commands.py"
        "::test_values_of_a_file_stay_off_the_terminal_also_where_pydicom_warns_of_them",
    ),
    Mutant(
        "split",
        "echoplane/dataset/split.py",
        "split_of.setdefault(p, split) != split}",
        'split_of.setdefault(p, split) == ""}',
        "tests/unit/test_dataset.py::test_a_patient_in_two_splits_is_refused",
    ),
    Mutant(
        "split",
        "echoplane/dataset/split.py",
        'f"{salt}\\n{patient}"',
        'f"{patient}"',
        "tests/unit/test_dataset.py::test_another_salt_is_another_split",
    ),
    Mutant(
        "sampling",
        "echoplane/dataset/sampling.py",
        "label_counts[label_index_N] ** (1 - balance)",
        "label_counts[label_index_N]",
        "tests/unit/test_dataset.py::test_at_full_balance_labels_and_patients_within_them_are_shown_equally",
    ),
    Mutant(
        "sampling",
        "echoplane/dataset/sampling.py",
        "[rank::world]",
        "[rank:]",
        "tests/unit/test_dataset.py::test_workers_share_one_epoch_without_talking",
    ),
    Mutant(
        "preprocess",
        "echoplane/tasks/picture.py",
        "if region.kind in kinds",
        "if region.kind in ('trace',)",
        "tests/unit/test_tasks.py::test_what_lies_outside_the_scan_region_never_reaches_the_network",
    ),
    Mutant(
        "preprocess",
        "echoplane/tasks/view_video/__init__.py",
        "1000 * config.span_s / frame_time_ms",
        "25 * config.span_s",
        "tests/unit/test_tasks.py::test_frames_are_spread_over_one_second_whatever_the_frame_rate",
    ),
    Mutant(
        "stages",
        "echoplane/stages/stage.py",
        "return manifest if manifest.key == key and manifest.intact() else None",
        "return manifest if manifest.key == key else None",
        "tests/unit/test_stage.py::test_a_damaged_folder_is_made_again",
    ),
    Mutant(
        "calibration",
        "echoplane/tasks/calibration.py",
        "scaled_NK = logits_NK / np.exp(log_temperature)",
        "scaled_NK = logits_NK * np.exp(log_temperature)",
        "tests/unit/test_calibration.py::test_a_known_temperature_is_recovered",
    ),
    Mutant(
        "calibration",
        "echoplane/tasks/calibration.py",
        "first = int(enough[0]) if len(enough)",
        "first = 0 if len(enough)",
        "tests/unit/test_calibration.py::test_the_threshold_is_the_lowest_at_which_answers_are_right_often_enough",
    ),
    Mutant(
        "gate",
        "echoplane/promotion/gate.py",
        "passed = value >= limit",
        "passed = True",
        "tests/unit/test_promotion.py::test_each_single_demand_that_is_not_met_refuses_the_model",
    ),
    Mutant(
        "gate",
        "echoplane/evaluation/intervals.py",
        "np.unique(patient_N, return_inverse=True, return_counts=True)",
        "np.unique(np.arange(len(patient_N)), return_inverse=True, return_counts=True)",
        "tests/unit/test_promotion.py::test_patients_are_the_clusters_of_the_comparison",
    ),
    Mutant(
        "bundle",
        "echoplane/bundle/bundle.py",
        "if found != expected:",
        "if not found:",
        "tests/unit/test_bundle.py::test_one_changed_byte_in_any_file_refuses_the_bundle_and_names_the_file",
    ),
    Mutant(
        "evaluation",
        "echoplane/evaluation/evaluation.py",
        "if found != expected:",
        "if not found:",
        "tests/unit/test_evaluation.py::test_a_bundle_from_other_data_or_another_split_is_not_evaluated",
    ),
    Mutant(
        "runtimes",
        "echoplane/runtimes/runtime.py",
        "if not (off <= allowed < np.inf):",
        "if off is None:",
        "tests/unit/test_runtimes.py::test_a_golden_bundle_passes_and_one_with_another_golden_output_is_refused",
    ),
    Mutant(
        "serving",
        "serving/api/models/slots.py",
        "last = held.retired and held.users == 0",
        "last = held.retired",
        "tests/unit/test_serving_parts.py::test_a_replaced_model_is_closed_when_its_last_request_is_done",
    ),
    Mutant(
        "cine MR",
        "echoplane/tasks/cmr_segmentation/scoring.py",
        "looked_at = truth_TZHW[t] != UNDRAWN",
        "looked_at = truth_TZHW[t] >= 0",
        "tests/unit/test_cmr_data.py::test_slices_and_structures_that_nobody_drew_do_not_count",
    ),
    Mutant(
        "cine MR",
        "echoplane/tasks/cmr_segmentation/drawn.py",
        "target_HW[labels_HW == UNDRAWN] = unknown_of(target_HW)",
        "target_HW[labels_HW == UNDRAWN] = 1",
        "tests/unit/test_cmr_data.py::test_a_pixel_that_nobody_looked_at_may_be_anything",
    ),
    Mutant(
        "cine MR",
        "echoplane/study/series.py",
        "again += len(best) < len(slices)",
        "most = slices",
        "tests/unit/test_cmr_found.py::test_a_slice_scanned_again_is_taken_from_one_series_alone",
    ),
    Mutant(
        "dataset",
        "echoplane/stages/dataset.py",
        "    if public:\n        return",
        "    if True:\n        return",
        "tests/unit/test_dataset.py::test_studies_that_may_name_somebody_are_refused",
    ),
    Mutant(
        "stages",
        "echoplane/stages/stage.py",
        "if manifest.stage not in origin.stages:",
        "if False:",
        "tests/unit/test_stage.py::test_a_manifest_of_another_stage_is_refused",
    ),
    Mutant(
        "edge",
        "echoplane/edge/upload.py",
        "if keys is not None and not (report.device in keys and is_signed(content, signature, keys[report.device])):",
        "if keys is not None and report.device not in keys:",
        "tests/unit/test_edge_enrolment.py::test_reports_count_only_if_the_enrolled_device_signed_them",
    ),
    Mutant(
        "edge",
        "echoplane/edge/upload.py",
        'if report is None or f"{report.device}{SUFFIX}" != file.name:',
        "if report is None:",
        "tests/unit/test_edge_fleet.py::test_a_report_counts_only_under_its_devices_name_and_only_if_it_is_one",
    ),
    Mutant(
        "edge",
        "echoplane/edge/enrolment.py",
        "if used_by is not None and (used_by != key or self._key_of(database, device) != key):",
        "if used_by is not None and self._key_of(database, device) is None:",
        "tests/unit/test_edge_enrolment.py::test_a_used_invitation_works_again_only_for_the_same_key",
    ),
    Mutant(
        "edge",
        "echoplane/edge/enrolment.py",
        "if asked.subject != name_of(device):",
        "if not asked.subject:",
        "tests/unit/test_edge_enrolment.py::test_a_request_for_another_name_or_by_another_kind_of_key_is_refused_and_uses_"
        "nothing_up",
    ),
    Mutant(
        "edge",
        "echoplane/edge/enrolment.py",
        "known != key or known != _pem_of(present.public_key()) or ",
        "",
        "tests/unit/test_edge_enrolment.py::test_a_renewal_for_another_key_name_or_authority_is_refused",
    ),
    Mutant(
        "edge",
        "serving/edge/identity.py",
        "if hashlib.sha256(root).hexdigest() != invitation.root_sha256:",
        "if not root:",
        "tests/unit/test_edge_enrolment.py::test_what_fails_is_said_and_tried_again",
    ),
    Mutant(
        "edge",
        "echoplane/edge/policy.py",
        "if new.low > old.high + margin else",
        "if new.count / new.of > old.count / old.of else",
        "tests/unit/test_edge_answers.py::test_more_abstentions_halt_if_they_are_certain",
    ),
    Mutant(
        "edge",
        "echoplane/edge/policy.py",
        "return Tally(len(ring) + damaged, serving,",
        "return Tally(len(ring), serving,",
        "tests/unit/test_edge_answers.py::test_a_damaged_report_keeps_a_ring_from_being_widened",
    ),
)


def main(arguments: list[str]) -> int:
    """Tries every mutant, or with `--sample SECONDS` as many as that time allows; which ones depends on the commit.

    Exit status 0 if every mutant tried was caught, and in a sample also none of the others is stale.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--sample", type=float, metavar="SECONDS", help="try another part each commit, in this time")
    limit_s = parser.parse_args(arguments).sample
    deadline = time.monotonic() + (limit_s or math.inf)
    tried, missed = 0, 0
    if limit_s:
        stale = [mutant for mutant in MUTANTS if is_stale(mutant, CHECKOUT)]
        missed += len(stale)
        sys.stdout.writelines(f"stale {mutant.file}: {mutant.old.strip()[:60]}\n" for mutant in stale)
    with tempfile.TemporaryDirectory() as folder:
        copy = _copied_checkout(Path(folder) / "echoplane")
        for mutant in _in_order_of_commit() if limit_s else MUTANTS:
            try:
                verdict = _try(mutant, copy, deadline)
            except subprocess.TimeoutExpired:
                break
            tried += 1
            missed += verdict != "caught"
            sys.stdout.write(f"{tried}/{len(MUTANTS)} {verdict:<8} {mutant.room:<12} {mutant.new.strip()[:60]}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{tried} of {len(MUTANTS)} tried, {missed} missed\n")
    return int(missed > 0 or tried == 0)


def _in_order_of_commit() -> list[Mutant]:
    """Returns the mutants in an order that the commit's id decides."""
    shown = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return random.Random(shown.stdout).sample(  # noqa: S311 (no secret)
        MUTANTS, len(MUTANTS)
    )


def _copied_checkout(target: Path) -> Path:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, target / name)
    return target


def is_stale(mutant: Mutant, copy: Path) -> bool:
    """Returns True unless the line that the mutant changes is in the code exactly once."""
    return (copy / mutant.file).read_text().count(mutant.old) != 1


def _try(mutant: Mutant, copy: Path, deadline: float) -> str:
    """caught, missed, stale (its line is not there exactly once) or broken (its test fails without it). Raises
    TimeoutExpired at the deadline."""
    path = copy / mutant.file
    source = path.read_text()
    if is_stale(mutant, copy):
        return "stale"
    if _failed(mutant.test, copy, deadline):
        return "broken"
    path.write_text(source.replace(mutant.old, mutant.new))
    try:
        return "caught" if _failed(mutant.test, copy, deadline) else "missed"
    finally:
        path.write_text(source)


def _failed(test: str, copy: Path, deadline: float) -> bool:
    """Returns True if the test ran and failed; an error that kept it from running does not count."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
    left_s = None if math.isinf(deadline) else max(0.0, deadline - time.monotonic())
    env = os.environ | {"PYTHONPATH": str(copy)}  # for programs that the test starts in other folders
    return subprocess.run(command, cwd=copy, env=env, capture_output=True, timeout=left_s, check=False).returncode == 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
