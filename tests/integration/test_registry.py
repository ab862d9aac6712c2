"""The registry on a real MLflow server: a bundle goes in once, passes the gate, comes out whole."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from echoplane import cli
from echoplane.adapters.local_mlflow import local_server
from echoplane.adapters.registry import Registry
from echoplane.adapters.rollback import roll_back
from echoplane.adapters.trust import ModelTrust
from echoplane.audit import read_hashed, read_log
from echoplane.bundle import read
from echoplane.errors import AuditError, BundleError, ConfigError, UntrustedModel
from echoplane.promotion import read_policy
from echoplane.signing import new_signing_key, trust
from echoplane.stages import evaluate, promote
from echoplane.stages.outputs import Promotion
from echoplane.stages.stage import Manifest
from tests.tiny_bundle import TASK, make_tiny_bundle
from tests.tiny_evaluation import finish, make_chain

pytestmark = pytest.mark.usefixtures("no_own_keys")
CHECKOUT = Path(__file__).resolve().parents[2]
LENIENT = read_policy(TASK).model_dump(by_alias=True) | {
    "min_patients": 1,
    "floors_low": {"accuracy": 0.0},
    "margins": {"accuracy": 1.0},
    "label_floors": {},
    "subgroup_floors": {},
    "ceilings": {},
    "latency_p95_ms": 60_000,
}
"""What even a model of random weights meets: these tests are of the registry, not of the gate."""


class House:
    """A server and a run folder with a chain of finished stages for a number of bundles."""

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri, self.registry = folder, uri, Registry(uri)
        self.chain = make_chain(folder / "chain")
        (folder / "lenient.yaml").write_text(json.dumps(LENIENT))

    def bundle(self, seed: int) -> str:
        spec = read(Path(self.chain["bundle"]).parent).spec
        folder = self.folder / f"bundle-{seed}"
        return finish(make_tiny_bundle(folder, seed, data_digest=spec.data_digest, split_id=spec.split_id), "export")

    def evaluated(self, bundle: str, threads: int = 2) -> str:
        chain = self.chain | {"bundle": bundle}
        done = evaluate.run(evaluate.Config(root=str(self.folder / "run"), resamples=100, threads=threads, **chain))
        return f"{done.folder}/manifest.json"

    def promote(self, bundle: str, policy: str = "lenient", uri: str | None = None, threads: int = 2) -> Manifest:
        return promote.run(
            promote.Config(
                root=str(self.folder / "run"),
                bundle=bundle,
                evaluation=self.evaluated(bundle, threads),
                tracking_uri=uri or self.uri,
                policy=str(self.folder / "lenient.yaml") if policy == "lenient" else policy,
            )
        )

    def versions(self) -> int:
        return len(self.registry.client.search_model_versions(f"name = '{TASK}'"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    with local_server(folder / "mlflow") as uri:
        yield House(folder, uri)


@pytest.fixture(scope="module")
def first(house: House) -> str:
    """The manifest of a bundle that was promoted."""
    assert house.registry.champion(TASK) is None
    bundle = house.bundle(0)
    assert house.promote(bundle).counts["passed"]
    return bundle


def test_a_promoted_bundle_is_the_champion_and_comes_back_as_it_was_sealed(
    house: House, first: str, tmp_path: Path
) -> None:
    champion, sealed = house.registry.champion(TASK), read(Path(first).parent)
    assert champion is not None
    assert champion.bundle_id == sealed.id
    assert (champion.tags["split_id"], champion.tags["data_digest"]) == (sealed.spec.split_id, sealed.spec.data_digest)
    assert (champion.tags["runtime"], champion.tags["precision"], champion.tags["threads"]) == ("openvino", "f32", "2")
    assert champion.tags["decision"] == "passed"
    assert float(champion.tags["figure.accuracy_low"]) <= float(champion.tags["figure.accuracy"])
    assert house.registry.download(champion, tmp_path / "here").id == sealed.id
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]


def test_promoting_again_registers_nothing_twice_and_moves_nothing(house: House, first: str) -> None:
    before, decided = house.versions(), house.promote(first)
    assert house.versions() == before
    assert house.promote(first).digest == decided.digest


def test_the_run_holds_the_figures_the_evaluation_and_the_decision(house: House, first: str) -> None:
    champion = house.registry.champion(TASK)
    assert champion is not None
    run = house.registry.client.get_run(champion.tags["evaluation_run"])
    assert run.info.status == "FINISHED"
    assert {"accuracy", "accuracy_low", "f1", "recall/plax", "latency_ms_p95"} <= set(run.data.metrics)
    assert run.data.params["precision"] == "f32"
    listed = {a.path for a in house.registry.client.list_artifacts(run.info.run_id, "evaluation")}
    assert {"evaluation/scores.parquet", "evaluation/evaluation.json", "evaluation/report.html"} <= listed
    assert "decision.json" in {a.path for a in house.registry.client.list_artifacts(run.info.run_id)}


def test_mlflows_own_loader_answers_dicom_by_path_and_bytes_without_a_pickle(house: House, first: str) -> None:
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(f"models:/{TASK}@champion")
    clip = next((house.folder / "chain" / "studies" / "dicom").rglob("*.dcm"))
    by_path, by_bytes = model.predict([str(clip)])[0], model.predict(clip.read_bytes())[0]
    assert by_path == by_bytes
    assert sum(by_path["probabilities"].values()) == pytest.approx(1)
    stored = [p for p in (house.folder / "mlflow" / "artifacts").rglob("*") if p.is_file()]
    assert stored
    assert not [p for p in stored if p.suffix in (".pkl", ".pickle", ".cloudpickle")]
    requirements = next(p for p in stored if p.name == "requirements.txt").read_text()
    assert "openvino==" in requirements
    assert "torch" not in requirements


def test_a_refused_model_is_registered_with_its_reasons_and_serves_nobody(house: House, first: str) -> None:
    champion, bundle = house.registry.champion(TASK), house.bundle(5)
    done = house.promote(bundle, policy="default")
    assert not done.counts["passed"]
    assert any("patients were tested" in sentence for sentence in done.counts["refused_by"])
    assert house.registry.champion(TASK) == champion
    refused = house.registry.version_of(TASK, read(Path(bundle).parent).id)
    assert refused is not None
    assert refused.tags["decision"] == "refused"
    assert "data/test_patients" in refused.tags["failed_checks"]


def test_a_refused_evaluation_changes_nothing_of_how_the_champion_serves_and_an_accepted_one_does(
    house: House, first: str
) -> None:
    champion = house.registry.champion(TASK)
    assert champion is not None
    assert not house.promote(first, policy="default", threads=1).counts["passed"]
    after = house.registry.champion(TASK)
    assert after is not None
    assert {name: after.tags[name] for name in champion.tags} == champion.tags
    assert after.tags["threads"] == "2"
    assert house.promote(first, threads=1).counts["passed"]
    assert house.registry.champion(TASK).tags["threads"] == "1"  # type: ignore[union-attr]


def test_an_evaluation_that_was_changed_afterwards_is_not_believed(house: House, first: str) -> None:
    bundle = house.bundle(9)
    figures = Path(house.evaluated(bundle)).parent / "evaluation.json"
    config = promote.Config(
        root=str(house.folder / "run"),
        bundle=bundle,
        evaluation=str(figures.parent / "manifest.json"),
        tracking_uri=house.uri,
        policy=str(house.folder / "lenient.yaml"),
    )
    figures.write_text(figures.read_text().replace('"clips"', '"clips" '))
    with pytest.raises(ConfigError, match="not as `evaluate` left them"):
        promote.run(config)
    assert house.registry.version_of(TASK, read(Path(bundle).parent).id) is None


def test_a_second_champion_keeps_the_first_as_previous_and_a_rollback_stays(house: House, first: str) -> None:
    old, bundle = house.registry.champion(TASK), house.bundle(1)
    done = house.promote(bundle)
    new = house.registry.champion(TASK)
    assert old is not None
    assert new is not None
    assert done.counts["champion"] == old.bundle_id
    decision = json.loads((done.path / "decision.json").read_text())
    assert "champion/accuracy" in {reason["name"] for reason in decision["reasons"]}
    assert new.bundle_id == read(Path(bundle).parent).id
    previous = house.registry.by_alias(TASK, "previous")
    assert previous is not None
    assert previous.number == old.number
    assert house.promote(bundle).digest == done.digest
    house.registry.client.set_registered_model_alias(TASK, "champion", old.number)
    house.promote(bundle)
    assert house.registry.champion(TASK).number == old.number  # type: ignore[union-attr]
    assert house.promote(bundle, threads=1).counts["passed"]
    house.registry.client.set_registered_model_alias(TASK, "champion", old.number)
    house.promote(bundle)  # an earlier one of two decisions on it
    assert house.registry.champion(TASK).number == old.number  # type: ignore[union-attr]


def test_a_model_is_measured_against_one_that_was_promoted_meanwhile(
    house: House, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, mine, measured = house.bundle(11), house.bundle(12), promote.run_stage

    def with_other_meanwhile(*args: Any, **more: Any) -> Manifest:
        manifest = measured(*args, **more)
        monkeypatch.setattr(promote, "run_stage", measured)
        house.promote(other)
        return manifest

    for bundle in (other, mine):
        house.evaluated(bundle)
    monkeypatch.setattr(promote, "run_stage", with_other_meanwhile)
    done = house.promote(mine)
    ids = {alias: house.registry.by_alias(TASK, alias).bundle_id for alias in ("champion", "previous")}  # type: ignore[union-attr]
    assert done.counts["champion"] == read(Path(other).parent).id
    assert ids == {"champion": read(Path(mine).parent).id, "previous": read(Path(other).parent).id}


def test_an_emptied_registry_gets_the_bundle_again_though_the_decision_is_found_finished(
    house: House, first: str
) -> None:
    house.registry.client.delete_registered_model(TASK)
    house.promote(first)
    champion = house.registry.champion(TASK)
    assert champion is not None
    assert champion.bundle_id == read(Path(first).parent).id
    assert champion.tags["decision"] == "passed"


def test_a_run_that_the_environment_names_is_joined_and_left_running(
    house: House, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = house.registry.client.create_run("0")
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    bundle = house.bundle(7)
    house.promote(bundle, policy="default")
    joined = house.registry.client.get_run(run.info.run_id)
    assert "accuracy" in joined.data.metrics
    assert joined.info.status == "RUNNING"


def test_serving_reads_the_registry_with_what_skinny_has(house: House, first: str, tmp_path: Path) -> None:
    absent = ("torch", "kfp", "ray", "pandas", "matplotlib", "pyarrow", "scipy", "sklearn", "sqlalchemy", "flask")
    code = (
        "import sys; [sys.modules.__setitem__(name, None) for name in sys.argv[3:]]\n"
        "from echoplane.adapters.registry import Registry\n"
        f"registry = Registry(sys.argv[1]); champion = registry.champion({TASK!r})\n"
        "print(registry.download(champion, sys.argv[2]).id == champion.bundle_id)"
    )
    command = [sys.executable, "-c", code, house.uri, str(tmp_path / "bundle"), *absent]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert done.stdout.strip() == "True", done.stderr


def test_a_download_that_is_not_the_registered_bundle_is_refused(house: House, first: str, tmp_path: Path) -> None:
    champion = house.registry.champion(TASK)
    assert champion is not None
    house.registry.client.set_model_version_tag(TASK, champion.number, "bundle_id", "f" * 64)
    try:
        told = house.registry.champion(TASK)
        assert told is not None
        with pytest.raises(BundleError, match="its tag says ffff"):
            house.registry.download(told, tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
    finally:
        house.registry.client.set_model_version_tag(TASK, champion.number, "bundle_id", champion.bundle_id)


def test_a_server_that_is_away_is_told_as_such_and_an_address_without_http_refused() -> None:
    code = (
        "import os; os.environ['MLFLOW_HTTP_REQUEST_MAX_RETRIES'] = '0'\n"
        "from echoplane.adapters.registry import Registry\n"
        "Registry('http://user:secret@127.0.0.1:9').champion('echo-view-video')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=CHECKOUT)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("echoplane.errors.RegistryUnavailable: MLflow at 127.0.0.1:9 ")
    assert "secret" not in last
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        Registry("sqlite:///mlflow.db")


def test_k7_what_an_image_lacks_is_no_line_in_the_log_of_promote(tmp_path: Path) -> None:
    """Neither git nor a name for the user, as in the worker's image."""
    code = (
        "import contextlib, getpass\n"
        "def nameless(): raise KeyError('getpwuid(): uid not found')\n"
        "getpass.getuser = nameless\n"
        "from echoplane.adapters.registry import Registry\n"
        "with contextlib.suppress(Exception): Registry('http://127.0.0.1:9').champion('echo-view-video')\n"
        "import mlflow; print(mlflow.__version__)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MLFLOW_"))}
    environment |= {"PATH": str(tmp_path), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout
    assert done.stderr == ""


def test_the_server_ends_when_whoever_started_it_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from echoplane.adapters.local_mlflow import start_server\n"
        "server, uri = start_server(sys.argv[1])\n"
        "print(server.pid, flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT, env=os.environ
    )
    assert owner.stdout is not None
    server = psutil.Process(int(owner.stdout.readline()))
    _wait(lambda: server.children())
    tree = [server, *server.children(recursive=True)]
    owner.kill()
    owner.communicate()
    assert not psutil.wait_procs(tree, timeout=20)[1]


def _wait(ready: object, limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_signed_promotion_is_accepted_and_a_foreign_model_by_alias_is_not(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1 on a real server: the gate signs, a service's trust accepts; an attacker with MLflow's address is refused."""
    key, trusted, log = tmp_path / "signing.key", tmp_path / "trusted-keys.json", tmp_path / "audit.jsonl"
    trust(trusted, new_signing_key(key).public, "mlops", ())
    monkeypatch.setenv("ECHOPLANE_SIGNING_KEY_FILE", str(key))
    monkeypatch.setenv("ECHOPLANE_TRUSTED_KEYS", str(trusted))
    monkeypatch.setenv("ECHOPLANE_AUDIT_LOG", str(log))
    first, second = house.bundle(21), house.bundle(22)
    assert house.promote(first).counts["passed"]
    house.promote(first)
    champion, model_trust = house.registry.champion(TASK), ModelTrust.from_environment()
    assert champion is not None
    statement = model_trust.check(champion, "champion")
    assert statement is not None
    model_trust.check_evidence(house.registry, champion, statement)
    model_trust.accepted(statement)
    assert house.promote(second).counts["passed"]
    newer = house.registry.champion(TASK)
    assert newer is not None
    model_trust.accepted(model_trust.check(newer, "champion"))

    house.registry.client.set_registered_model_alias(TASK, "champion", champion.number)
    with pytest.raises(UntrustedModel, match="older than one that was accepted"):
        model_trust.check(house.registry.champion(TASK), "champion")  # type: ignore[arg-type]
    house.registry.client.set_registered_model_alias(TASK, "champion", newer.number)
    roll_back(house.registry, TASK, by="on-call", reason="test")
    back = house.registry.champion(TASK)
    assert back is not None
    rolled_back = model_trust.check(back, "champion")
    assert rolled_back is not None
    assert (back.number, rolled_back.action, rolled_back.by) == (champion.number, "rollback", "on-call")
    model_trust.check_evidence(house.registry, back, rolled_back)

    refused = house.bundle(25)
    assert not house.promote(refused, policy="default").counts["passed"]
    foreign = house.registry.version_of(TASK, read(Path(refused).parent).id)
    assert foreign is not None
    house.registry.client.set_model_version_tag(TASK, foreign.number, "decision", "passed")
    house.registry.client.set_registered_model_alias(TASK, "champion", foreign.number)
    with pytest.raises(UntrustedModel, match="nobody signed"):
        model_trust.check(house.registry.champion(TASK), "champion")  # type: ignore[arg-type]
    house.registry.client.set_registered_model_alias(TASK, "champion", back.number)
    records = read_log(log)
    assert [record.action for record in records] == ["promotion", "promotion", "rollback", "refusal"]
    assert records[2].details["reason"] == "test"
    assert statement.audit in {digest for _, digest in read_hashed(log)}


def test_a_promotion_that_cannot_be_recorded_does_not_happen(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion, bundle = house.registry.champion(TASK), house.bundle(23)
    log = tmp_path / "audit.jsonl"
    log.write_text("damaged\n")
    monkeypatch.setenv("ECHOPLANE_AUDIT_LOG", str(log))
    with pytest.raises(AuditError):
        house.promote(bundle)
    assert house.registry.champion(TASK) == champion
    log.unlink()
    assert house.promote(bundle).counts["passed"]


def test_a_champion_of_before_is_signed_when_its_promotion_is_repeated_with_a_key(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = house.bundle(24)
    house.promote(bundle)
    unsigned = house.registry.champion(TASK)
    assert unsigned is not None
    assert "signature.champion" not in unsigned.tags
    key, trusted = tmp_path / "signing.key", tmp_path / "trusted-keys.json"
    trust(trusted, new_signing_key(key).public, "mlops", ())
    monkeypatch.setenv("ECHOPLANE_SIGNING_KEY_FILE", str(key))
    monkeypatch.setenv("ECHOPLANE_TRUSTED_KEYS", str(trusted))
    house.promote(bundle)
    champion = house.registry.champion(TASK)
    assert champion is not None
    assert ModelTrust.from_environment().check(champion, "champion") is not None


def test_why_and_the_evidence_pack_tell_a_real_promotion(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    key, trusted = tmp_path / "signing.key", tmp_path / "trusted-keys.json"
    trust(trusted, new_signing_key(key).public, "mlops", ())
    monkeypatch.setenv("ECHOPLANE_SIGNING_KEY_FILE", str(key))
    monkeypatch.setenv("ECHOPLANE_TRUSTED_KEYS", str(trusted))
    monkeypatch.setenv("ECHOPLANE_AUDIT_LOG", str(tmp_path / "audit.jsonl"))
    (house.folder / "asks.yaml").write_text(json.dumps(LENIENT | {"approval": "person"}))
    done = house.promote(house.bundle(31), policy=str(house.folder / "asks.yaml"))
    assert done.stated(Promotion).waits
    before = house.registry.champion(TASK)
    assert cli.main(["approve", TASK, "--by", "head of echo", "--reason", "read 20", "--tracking-uri", house.uri]) == 0
    champion = house.registry.champion(TASK)
    assert champion is not None
    assert champion != before
    assert ModelTrust.from_environment().check(champion, "champion") is not None
    page, pack = tmp_path / "why.html", tmp_path / "pack.zip"
    capsys.readouterr()
    assert cli.main(["why", TASK, "--html", str(page), "--tracking-uri", house.uri]) == 0
    said = capsys.readouterr().out
    for words in ("is live", "verified: approval by head of echo", "read 20", champion.bundle_id, "95% interval"):
        assert words in said
    assert "Every check of the gate" in page.read_text()
    assert cli.main(["evidence", "make", TASK, "--out", str(pack), "--tracking-uri", house.uri]) == 0
    assert cli.main(["evidence", "verify", str(pack)]) == 0
    monkeypatch.delenv("ECHOPLANE_TRUSTED_KEYS")
    assert cli.main(["evidence", "verify", str(pack)]) == 1
    (house.folder / "asks.yaml").write_text(json.dumps(LENIENT | {"approval": "person", "min_patients": 2}))
    again = house.promote(house.bundle(31), policy=str(house.folder / "asks.yaml"))
    assert again.stated(Promotion).passed
    assert not again.stated(Promotion).waits, "it is the champion already"
