"""Whole demo: the pipeline beside an MLflow server, then the champion served and queried, then the report."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom

from demo import client, page, servers
from demo.console import Display, display
from demo.outcome import Outcome, StageTime
from demo.pipeline import PipelineRun
from echoplane.adapters.local_mlflow import start_server, stop_server
from echoplane.deid import load_key
from echoplane.errors import ConfigError, StageError
from echoplane.stages.outputs import BundleOutput, Promotion
from echoplane.stages.phantom import DICOM
from echoplane.stages.stage import Manifest, package_digest
from echoplane.study.views import VIDEO_VIEWS

BUILD = Path("build/demo")
PIPELINE = "echo-view"
PIPELINE_STAGES = ("phantom", "deid", "dataset", "train", "export", "evaluate", "promote")
STAGES = (*PIPELINE_STAGES, "serve", "report")
METRICS = ("echoplane_requests_total", "echoplane_slot_", "echoplane_model_info", "echoplane_stage_seconds_count")
RETRIES = "6"
"""Number of times that a request to MLflow is retried, over a minute: a resumed run may begin before the server is
up."""
TITLES = {view.name: view.title for view in VIDEO_VIEWS}


def run(folder: Path = BUILD, parameters: dict[str, str] | None = None) -> Outcome:
    """Runs the demo, or resumes after the last finished stage; writes report.json and report.html under `folder`."""
    began_s, wall_s = time.monotonic(), time.time()
    clear_if_stale(folder, parameters or {})
    with display(STAGES) as shown, contextlib.ExitStack() as open_servers:
        shown.say("echoplane demo: invented patients, research use only. Interrupted, it goes on where it was.")
        tracking_uri = open_servers.enter_context(_registry(folder))
        manifests, times, service = _pipeline(folder, parameters or {}, tracking_uri, shown, open_servers, wall_s)
        _stop_if_refused(manifests["promote"])
        asked, metrics, seconds = _serve(service, manifests, shown)
        times.append(StageTime("serve", seconds, resumed=False))
        shown.start("report")
        before = original_of(asked[0].path, manifests["phantom"].path / DICOM, _key_file(folder))
        outcome = Outcome(manifests, times, asked, metrics, time.monotonic() - began_s, before)
        page.write(outcome, folder / "report.html")
        (folder / "report.json").write_text(json.dumps(outcome.report, indent=1) + "\n")
        shown.finish("report")
    return outcome


def clear_if_stale(folder: Path, parameters: dict[str, str]) -> None:
    """Removes earlier results if the package or the parameters differ from those of the previous run.

    Other patients would be made, and the promotion gate cannot compare models that were tested on different patients.
    """
    made_by = json.dumps({"package": package_digest(), "parameters": parameters})
    note = folder / "made-by.json"
    if not note.exists() or note.read_text() != made_by:
        for name in ("work", "mlflow"):
            shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(made_by)


@contextlib.contextmanager
def _registry(folder: Path) -> Iterator[str]:
    """Yields the address of an MLflow server that is still starting: the first stages do not need it."""
    server, uri = start_server(folder / "mlflow")
    try:
        yield uri
    finally:
        stop_server(server)


def _pipeline(
    folder: Path,
    parameters: dict[str, str],
    tracking_uri: str,
    shown: Display,
    open_servers: contextlib.ExitStack,
    wall_s: float,
) -> tuple[dict[str, Manifest], list[StageTime], servers.ServiceProcess]:
    """Runs the seven steps; the service starts during the last of them."""
    from pipelines.local import manifests

    root = folder / "work"
    service: servers.ServiceProcess | None = None
    child = PipelineRun(
        PIPELINE,
        {"root": str(root)} | parameters,
        folder / "pipeline.log",
        {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": RETRIES},
    )
    open_servers.callback(child.stop)
    for followed in child.follow(shown):
        if followed.stage == "promote" and not service:
            service = open_servers.enter_context(servers.service(tracking_uri, folder / "service.log"))
    found = manifests(root)
    times = [StageTime(name, followed.seconds[name], _resumed(found[name], wall_s)) for name in PIPELINE_STAGES]
    if service is None:
        raise StageError("the pipeline ended without its step promote, so nothing is served.")
    return found, times, service


def _resumed(manifest: Manifest, wall_s: float) -> bool:
    """Returns True if the stage had been finished before this run began."""
    return (manifest.path / "manifest.json").stat().st_mtime < wall_s


def _stop_if_refused(promoted: Manifest) -> None:
    decision = promoted.stated(Promotion)
    if not decision.passed:
        reasons = " ".join(decision.refused_by)
        raise StageError(f"the gate refused the model, so nothing is served. {reasons} See {promoted.path}.")


def _serve(
    service: servers.ServiceProcess, manifests: dict[str, Manifest], shown: Display
) -> tuple[list[client.Asked], dict[str, float], float]:
    """Sends every held-out clip to the service over HTTP."""
    start = time.monotonic()
    shown.start("serve")
    servers.wait_ready(service)
    clips = client.scored_clips(*(manifests[name].path for name in ("deid", "dataset", "evaluate")))
    asked = client.ask_all(service.address, clips, lambda done, total: shown.advance("serve", done, total))
    if asked[0].answer["model"]["bundle"] != manifests["export"].stated(BundleOutput).bundle_id:
        raise StageError("the service answers with another bundle than the one that was promoted.")
    metrics = client.metrics(service.address, METRICS)
    shown.finish("serve", f"{len(asked)} clips")
    return asked, metrics, round(time.monotonic() - start, 1)


def _key_file(folder: Path) -> Path:
    return folder / "work" / "phantom-deid.key"


def original_of(deidentified: Path, phantoms: Path, key_file: Path) -> Path:
    """Returns the synthetic file from which a file was de-identified: its UID, replaced under the key, is the new
    file's."""
    key = load_key(key_file)
    sought = pydicom.dcmread(deidentified, stop_before_pixels=True).SOPInstanceUID
    for path in sorted(phantoms.rglob("*")):
        if path.is_file():
            uid = pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID
            if key.uid(uid) == sought:
                return path
    raise StageError("the phantom behind a test clip is gone; remove build/demo and run again.")


def summary(outcome: Outcome, folder: Path = BUILD) -> Iterator[str]:
    """Yields the lines that the demo prints at the end."""
    report = outcome.report
    patient = outcome.asked[0].scored["patient"]
    for asked in outcome.asked:
        if asked.scored["patient"] == patient:
            said = TITLES.get(asked.answer["label"], "cannot tell")
            yield f"  {said:34}{asked.answer['confidence']:.2f} {asked.elapsed_ms:6.0f} ms   {_verdict(asked)}"
    yield (
        f"accuracy {report['accuracy']:.3f} (95% {report['accuracy_low']:.3f} to {report['accuracy_high']:.3f}) on "
        f"{report['n_test_clips']} clips of {report['n_test_patients']} unseen patients; gate passed"
    )
    yield (
        f"HTTP p50 {report['http_ms']['p50']} ms, p95 {report['http_ms']['p95']} ms; "
        f"{page.sameness(report['skew_max'])}"
    )
    yield f"{page.duration(report['seconds'])}. Look at {folder / 'report.html'}"


def _verdict(asked: client.Asked) -> str:
    truth = asked.scored["truth_label"]
    return "right" if asked.answer["label"] == truth else f"it is {TITLES[truth]}"


def serve(port: int, folder: Path = BUILD) -> None:
    """Serves the demo's champion on `port` until Ctrl-C."""
    if not (folder / "mlflow").is_dir():
        raise ConfigError("there is no champion yet; run `make demo` first.")
    with _registry(folder) as tracking_uri, servers.service(tracking_uri, folder / "service.log", port) as service:
        print("starting, about 20 s ...", flush=True)
        servers.wait_ready(service)
        print(
            f"serving on {service.address}; what it takes and answers: {service.address}/docs. Ctrl-C ends it.",
            flush=True,
        )
        while True:
            service.check_alive()
            time.sleep(1)
