"""The mechanism that every stage shares: done once, verified before it is trusted, one writer, no orphans."""

import hmac
import importlib
import json
import shutil
from pathlib import Path
from typing import Annotated

import pytest

from echoplane.errors import ConfigError, StageError
from echoplane.files import digest_of
from echoplane.stages import batch, stage
from echoplane.stages.outputs import Samples, StageResult, Studies
from echoplane.stages.progress import printed
from echoplane.stages.stage import From, Manifest, StageConfig, file_digests, run_stage

STAGES = ("phantom", "deid", "dataset", "train", "export", "evaluate", "promote", "batch")
MANIFEST_FIELDS = {
    "deid.studies",
    "dataset.studies",
    "train.samples",
    "export.samples",
    "export.checkpoint",
    "evaluate.studies",
    "evaluate.samples",
    "evaluate.bundle",
    "promote.bundle",
    "promote.evaluation",
    "batch.studies",
    "batch.PlanConfig.studies",
    "batch.PartConfig.plan",
    "batch.ResultsConfig.plan",
    "batch.ResultsConfig.parts",
}


class Config(StageConfig):
    number: int = 1
    upstream: Annotated[str, From(("up",))] = ""


class Work:
    """Writes one file and counts how often it was called."""

    def __init__(self, content: str = "data") -> None:
        self.content, self.calls = content, 0

    def __call__(self, folder: Path) -> StageResult:
        self.calls += 1
        (folder / "out.txt").write_text(self.content)
        return StageResult(counts={"files": 1})


def test_a_finished_stage_is_answered_from_its_manifest(tmp_path: Path) -> None:
    work = Work()
    first, second = (run_stage("s", Config(root=str(tmp_path)), work) for _ in range(2))
    assert (work.calls, first) == (1, second)


@pytest.mark.parametrize("damage", ["changed", "removed", "added"])
def test_a_damaged_folder_is_made_again(tmp_path: Path, damage: str) -> None:
    work = Work()
    made = run_stage("s", Config(root=str(tmp_path)), work)
    out = made.path / "out.txt"
    {"changed": lambda: out.write_text("dat4"), "removed": out.unlink, "added": (made.path / "x").touch}[damage]()
    again = run_stage("s", Config(root=str(tmp_path)), work)
    assert (work.calls, again.digest, out.read_text()) == (2, made.digest, "data")


def test_an_interrupted_removal_of_a_damaged_folder_stops_no_later_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed_halfway(folder: Path, **how: bool) -> None:
        if (folder / "manifest.json").exists():
            (folder / "manifest.json").unlink()
            raise KeyboardInterrupt
        remove(folder, **how)

    config, remove = Config(root=str(tmp_path)), shutil.rmtree
    made = run_stage("s", config, Work())
    (made.path / "out.txt").write_text("dat4")
    monkeypatch.setattr(stage.shutil, "rmtree", killed_halfway)
    with pytest.raises(KeyboardInterrupt):
        run_stage("s", config, Work())
    assert run_stage("s", config, Work()).digest == made.digest
    assert [path for path in made.path.parent.iterdir() if path.is_dir()] == [made.path]


def test_a_folder_without_its_manifest_is_cleared_away_before_the_work(tmp_path: Path) -> None:
    config, work = Config(root=str(tmp_path)), Work()
    made = run_stage("s", config, work)
    (made.path / "manifest.json").unlink()

    def cleared(folder: Path) -> StageResult:
        assert not made.path.exists()
        return work(folder)

    assert run_stage("s", config, cleared).digest == made.digest


def test_other_settings_inputs_or_keys_are_other_results(tmp_path: Path) -> None:
    root = str(tmp_path)
    one = run_stage("up", Config(root=root), Work("one"))
    two = run_stage("up", Config(root=root, number=2), Work("two"))
    configs = [Config(root=root), Config(root=root, number=2)]
    configs += [Config(root=root, upstream=str(m.path / "manifest.json")) for m in (one, two)]
    keys = [stage.stage_key("s", config) for config in configs] + [stage.stage_key("s", configs[0], "key")]
    assert len(set(keys)) == 5


def test_another_root_is_the_same_result(tmp_path: Path) -> None:
    made = [run_stage("s", Config(root=str(tmp_path / name)), Work()) for name in "ab"]
    assert made[0].key == made[1].key
    assert made[0].digest == made[1].digest


def test_an_interrupted_stage_goes_on_in_its_own_folder(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> StageResult:
        (folder / "checkpoint").write_text("halfway")
        raise KeyboardInterrupt

    def resumed(folder: Path) -> StageResult:
        return StageResult(counts={"found": (folder / "checkpoint").read_text()})

    with pytest.raises(KeyboardInterrupt):
        run_stage("s", Config(root=str(tmp_path)), interrupted)
    assert not list(tmp_path.glob("s/*/manifest.json"))
    assert run_stage("s", Config(root=str(tmp_path)), resumed).counts == {"found": "halfway"}


def test_a_second_writer_is_turned_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "LOCK_WAIT_S", 0.1)
    config = Config(root=str(tmp_path))
    folder = tmp_path / "s" / stage.stage_key("s", config)[:16]
    with stage.one_writer(folder), pytest.raises(StageError, match="another run"):
        run_stage("s", config, Work())


def test_results_of_other_settings_are_made_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "LOCK_WAIT_S", 0.1)
    one, two = (Config(root=str(tmp_path), number=number) for number in (1, 2))
    with stage.one_writer(tmp_path / "s" / stage.stage_key("s", one)[:16]):
        assert run_stage("s", two, Work()).counts == {"files": 1}


def test_a_root_that_can_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="`root` can't be written"):
        run_stage("s", Config(root=str(tmp_path / "file")), Work())


def test_a_missing_manifest_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not a stage.s manifest"):
        run_stage("s", Config(root=str(tmp_path), upstream=str(tmp_path / "none.json")), Work())
    with pytest.raises(ConfigError):
        Manifest.read(__file__)


def test_a_manifest_of_another_stage_is_refused(tmp_path: Path) -> None:
    made = run_stage("elsewhere", Config(root=str(tmp_path)), Work())
    config, work = Config(root=str(tmp_path), upstream=f"{made.folder}/manifest.json"), Work()
    with pytest.raises(ConfigError, match="`upstream` is the manifest of another stage; one of `up` is needed"):
        run_stage("s", config, work)
    assert work.calls == 0


def test_every_path_of_a_manifest_says_which_stages_it_may_be_of() -> None:
    configs = {name: importlib.import_module(f"echoplane.stages.{name}").Config for name in STAGES}
    configs |= {f"batch.{name}": getattr(batch, name) for name in ("PlanConfig", "PartConfig", "ResultsConfig")}
    found = {f"{name}.{field}" for name, config in configs.items() for field in stage.manifest_fields(config)}
    assert found == MANIFEST_FIELDS


def test_what_a_manifest_does_not_state_can_not_be_decided_on(tmp_path: Path) -> None:
    made = run_stage("s", Config(root=str(tmp_path)), Work())
    with pytest.raises(ConfigError, match="does not state what is needed here"):
        made.stated(Studies)
    samples = Samples(task="t", data_digest="0" * 64, split_id="s")
    stated = made.model_copy(update={"output": samples, "counts": {"kind": "studies", "cines": 3}})
    stated.write(tmp_path / "m.json")
    assert Manifest.read(tmp_path / "m.json").stated(Samples) == samples
    with pytest.raises(ConfigError):
        stated.stated(Studies)


@pytest.mark.parametrize(
    "output",
    [
        {"kind": "studies", "unit": "file", "count": 1, "identity": "removed"},
        {"kind": "studies", "unit": "file", "count": 1, "identity": "none", "report_sha256": "0" * 64},
        {"kind": "studies", "unit": "file", "count": 1},
        {"kind": "studies", "unit": "file", "count": 1, "identity": "none", "cines": 3},
        {"kind": "anything"},
    ],
)
def test_a_half_stated_output_is_no_manifest(tmp_path: Path, output: dict[str, object]) -> None:
    stated = run_stage("s", Config(root=str(tmp_path)), Work()).model_dump() | {"output": output}
    (tmp_path / "m.json").write_text(json.dumps(stated))
    with pytest.raises(ConfigError, match=r"not a stage.s manifest"):
        Manifest.read(tmp_path / "m.json")


def test_progress_is_whole_lines_where_nobody_redraws_them(capsys: pytest.CaptureFixture[str]) -> None:
    show = printed("deid", every_s=0)
    show(1, 2)
    show(2, 2)
    assert capsys.readouterr().out.splitlines() == ["deid 1/2 0 s", "deid 2/2 0 s"]


KEY = "0123456789abcdef" * 4


def edited(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_s11_an_edited_or_unkeyed_manifest_is_refused_by_the_next_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unkeyed = run_stage("up", Config(root=str(tmp_path / "unkeyed")), Work()).path / "manifest.json"
    monkeypatch.setenv("ECHOPLANE_MANIFEST_KEY", KEY)
    up = run_stage("up", Config(root=str(tmp_path)), Work())
    path = up.path / "manifest.json"
    config = Config(root=str(tmp_path), upstream=str(path))
    assert config.input("upstream") == up
    original = path.read_text()
    forgeries: list[dict[str, object]] = [
        {"counts": {"files": 2}},
        {"digest": "0" * 64},
        {"code": "0" * 64},
        {"code": 1},
    ]
    for forgery in forgeries:
        edited(path, **forgery)
        with pytest.raises(ConfigError, match="`upstream` was edited, or made without this installation's key"):
            config.input("upstream")
        path.write_text(original)
    with pytest.raises(ConfigError, match="without this installation's key"):
        Config(root=str(tmp_path), upstream=str(unkeyed)).input("upstream")
    monkeypatch.setenv("ECHOPLANE_MANIFEST_KEY", KEY[::-1])
    with pytest.raises(ConfigError, match="without this installation's key"):
        config.input("upstream")
    monkeypatch.setenv("ECHOPLANE_MANIFEST_KEY", "short")
    with pytest.raises(ConfigError, match="5 characters; 32 at least"):
        config.input("upstream")


def test_s11_a_manifest_of_before_a_field_was_added_keeps_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOPLANE_MANIFEST_KEY", KEY)
    stated = {"stage": "up", "key": "0", "digest": "0" * 64, "folder": "/w", "counts": {}, "duration_s": 1.0}
    output = {"kind": "samples", "task": "t", "data_digest": "0" * 64, "split_id": "s"}
    content = json.dumps({k: v for k, v in stated.items() if k != "folder"} | {"output": output}, sort_keys=True)
    code = hmac.digest(KEY.encode(), content.encode(), "sha256").hex()
    (tmp_path / "manifest.json").write_text(json.dumps(stated | {"output": output, "code": code}))
    assert Manifest.read(tmp_path / "manifest.json").stated(Samples).patients == {}


def test_s11_files_that_changed_since_their_manifest_are_refused_by_the_next_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ECHOPLANE_MANIFEST_KEY", KEY)
    up = run_stage("up", Config(root=str(tmp_path)), Work())
    (up.path / "out.txt").write_text("dat4")
    with pytest.raises(ConfigError, match="the files of `upstream` have changed"):
        Config(root=str(tmp_path), upstream=str(up.path / "manifest.json")).input("upstream")


def test_s11_a_result_whose_manifest_was_forged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHOPLANE_MANIFEST_KEY", KEY)
    work = Work()
    made = run_stage("up", Config(root=str(tmp_path)), work)
    edited(made.path / "manifest.json", counts={"files": 7})
    assert run_stage("up", Config(root=str(tmp_path)), work).counts == {"files": 1}
    assert work.calls == 2


def test_s11_what_no_later_step_may_read_is_not_held_against_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "out.txt").write_text("data")
    (tmp_path / "quarantine" / "held.dcm").write_text("a file with a name in it")
    known = {"stage": "deid", "key": "k", "folder": str(tmp_path), "counts": {}, "duration_s": 0.0}
    manifest = Manifest(digest=digest_of(file_digests(tmp_path, ("quarantine",))), apart=("quarantine",), **known)
    assert manifest.intact()
    (tmp_path / "quarantine" / "held.dcm").unlink()
    assert manifest.intact()
    (tmp_path / "out.txt").write_text("dat4")
    assert not manifest.intact()
