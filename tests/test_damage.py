"""Damage to any file of a run or of its log: told in one line, or without effect on any figure."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.evaluation.evaluate import evaluate_run, predictions_path
from siren_rope_jax.prepare.synthetic import SyntheticConfig, generate
from siren_rope_jax.rotation.variants import ranking_variant
from siren_rope_jax.studies.comparable import finished_run
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.run_log import read_metrics
from tests.batches import interrupted_after
from tests.refusals import refused

pytestmark = pytest.mark.filterwarnings("ignore:.*metrics.jsonl is missing:UserWarning")
BEST, LATEST = 3, 6  # steps of the checkpoints in the interrupted run
KINDS = ("truncated", "flipped", "emptied", "deleted", "a folder", "another's")


def experiment(log: Path, seed: int = 1) -> ExperimentConfig:
    """Eight steps of one tiny model, with a validation after each."""
    model = {"width": 4, "heads": 1, "layers": 1, "embedding_width": 2, "head_widths": (4,)}
    model["unknown_rate"] = 0.0  # so that the third step is the best of the first six
    return read_experiment(
        {
            "variant": "ordinal",
            "data": {"path": str(log), "length": 20, "stride": 20, "batch_size": 8},
            "model": model | ranking_variant("ordinal"),
            "optimizer": {"learning_rate": 0.05},
            "training": {"epochs": 2.0, "evaluations_per_epoch": 4, "patience": 99, "log_every": 1},
            "seed": seed,
        }
    )


class Figures(NamedTuple):
    """What a run says: its result, and the validations of its whole training."""

    measured: Any
    validations: list[dict[str, Any]]


def evaluated(run: Path) -> Any:
    outcome = evaluate_run(run)
    return {key: outcome[key] for key in ("step", "events", "tasks", "baselines", "slices")}


def validations(run: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(run) if line["kind"] == "validation"]


class Made(NamedTuple):
    """A folder with two logs, and on each a run interrupted after its sixth step.

    `early`: the result of the interrupted run; `final`: of the whole one, with its validations.
    """

    folder: Path
    early: Any
    final: Figures


def interrupt(config: ExperimentConfig, run: Path, patch: pytest.MonkeyPatch) -> None:
    """Trains as long as there are checkpoints to be made, then as if by Ctrl-C no more."""
    with interrupted_after(LATEST, patch):
        fit(config, run)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("undamaged")
    with pytest.MonkeyPatch.context() as patch:
        for name, seed in (("own", 1), ("other", 2)):
            feed = SyntheticConfig(num_users=40, events_per_user=20, num_items=15, seed=seed - 1)
            generate(feed, folder / name / "log")
            interrupt(experiment(folder / name / "log", seed), folder / name / "run", patch)
            early = evaluated(folder / name / "run")
            if name == "own":
                first = early
    # The other run is of other parameters at the very same steps.
    for name in ("own", "other"):
        steps = {int(path.name) for path in (folder / name / "run/checkpoints").iterdir()}
        assert LATEST in steps and (name == "other" or steps == {BEST, LATEST - 1, LATEST})
    whole = folder / "whole"
    shutil.copytree(folder / "own/run", whole)
    fit(experiment(folder / "own/log"), whole)
    final = Figures(evaluated(whole), validations(whole))
    assert [line["step"] for line in final.validations] == list(range(1, 9))
    yield Made(folder, first, final)


@pytest.fixture
def copied(made: Made, tmp_path: Path) -> Path:
    shutil.copytree(made.folder / "own", tmp_path / "own")
    return tmp_path / "own"


def damage(place: Path, kind: str, other: Path) -> None:
    """Damages a file, or a whole folder, of a run or a log."""
    if kind in ("deleted", "a folder", "another's") or place.is_dir():
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    if kind == "a folder":
        place.mkdir()
    elif kind == "another's":
        (shutil.copytree if other.is_dir() else shutil.copy)(other, place)
    elif kind == "truncated":
        place.write_bytes(place.read_bytes()[: place.stat().st_size // 2])
    elif kind == "emptied":
        place.write_bytes(b"")
    elif kind == "flipped":
        content = bytearray(place.read_bytes())
        content[len(content) // 2] ^= 1
        place.write_bytes(content)


def only(folder: Path, glob: str) -> Path:
    """The one file that a glob means: Orbax draws some names at random."""
    return sorted(folder.glob(glob))[0]


def check_told_or_same(copied: Path, made: Made, damaged: Path) -> None:
    """Both commands end in one line about a file or folder, or with the undamaged figures."""

    def told(error: UserError) -> bool:
        assert "\n" not in str(error)
        about = Path(error.about)
        return about.is_relative_to(copied) and copied != about

    config = experiment(copied / "log")
    try:
        assert evaluated(copied / "run") == made.early
    except UserError as error:
        assert told(error), f"{damaged}: {error}"
    try:
        fit(config, copied / "run")
        assert evaluated(copied / "run") == made.final.measured
    except UserError as error:
        assert told(error), f"{damaged}: {error}"
    else:
        left = validations(copied / "run")  # none from before if the file was gone
        assert left in (made.final.validations, made.final.validations[LATEST:])


TOP = ("config.json", "data.json", "metrics.jsonl", "result.json", "predictions.parquet")
WITHIN = (
    "_CHECKPOINT_METADATA", "params/_METADATA", "params/_sharding",
    "params/manifest.ocdbt", "params/array_metadatas/process_0", "params/d/*",
    "params/ocdbt.process_0/manifest.ocdbt", "params/ocdbt.process_0/d/*", "rest/_METADATA",
    "rest/manifest.ocdbt", "rest/ocdbt.process_0/d/*",
)  # fmt: skip
FOLDERS = ("checkpoints", f"checkpoints/{BEST}", f"checkpoints/{LATEST}",
           f"checkpoints/{BEST}/params", f"checkpoints/{LATEST}/rest")  # fmt: skip


def cases() -> Iterator[Any]:
    """(a file of the run, a kind of damage); of the less telling ones, every fourth, as slow."""
    yield from itertools.product(TOP, KINDS)
    yield from itertools.product(FOLDERS, ("deleted", "a folder", "another's"))
    less_telling = []
    for step, name, kind in itertools.product((BEST, LATEST), WITHIN, KINDS):
        case = f"checkpoints/{step}/{name}", kind
        if kind == "flipped" or name == "_CHECKPOINT_METADATA":
            yield case
        else:
            less_telling.append(pytest.param(*case, marks=pytest.mark.slow))
    yield from less_telling[::4]


@pytest.mark.parametrize(("name", "kind"), [*cases()])
def test_damage_to_a_run_is_told_or_has_no_effect(
    made: Made, copied: Path, name: str, kind: str
) -> None:
    place, other = only(copied / "run", name), only(made.folder / "other/run", _nearest(made, name))
    damage(place, kind, other)
    check_told_or_same(copied, made, place)


def _nearest(made: Made, name: str) -> str:
    """The same file of the other run, or that of its latest checkpoint."""
    there = any((made.folder / "other/run").glob(name))
    return name if there else name.replace(f"checkpoints/{BEST}", f"checkpoints/{LATEST}")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    ["meta.json", "index.npy", "users.parquet", "vocabulary/item.parquet", "baselines.parquet",
     "histories-*.arrayrecord"],
)  # fmt: skip
def test_damage_to_a_log_is_told_or_has_no_effect(
    made: Made, copied: Path, name: str, kind: str
) -> None:
    place = only(copied / "log", name)
    damage(place, kind, only(made.folder / "other/log", name))
    check_told_or_same(copied, made, place)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["result.json", "predictions.parquet", "data.json"])
def test_damaged_results_are_not_compared(made: Made, copied: Path, name: str, kind: str) -> None:
    run = copied / "run"
    fit(experiment(copied / "log"), run)
    evaluate_run(run)
    finished_run(run)
    predictions_path(run)
    other = made.folder / "other/run"
    damage(run / name, kind, other / name)
    with pytest.raises(UserError) as caught:
        finished_run(run)
        predictions_path(run)
    assert Path(caught.value.about).is_relative_to(run)


@pytest.mark.parametrize("garbage", ["abc", "99", "7.orbax-checkpoint-tmp"])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_does_not_belong_among_checkpoints(
    made: Made, copied: Path, garbage: str, what: str
) -> None:
    place = copied / "run/checkpoints" / garbage
    place.write_text("x") if what == "file" else place.mkdir()
    check_told_or_same(copied, made, place)


def test_a_checkpoint_that_was_being_removed_is_not_missed(made: Made, copied: Path) -> None:
    """A kill may leave some files of an older checkpoint that is neither latest nor best."""
    left = copied / "run/checkpoints" / str(BEST - 1)
    (left / "params").mkdir(parents=True)
    fit(experiment(copied / "log"), copied / "run")
    assert evaluated(copied / "run") == made.final.measured and not left.exists()


def test_the_checkpoint_before_a_damaged_one_goes_on_to_the_same_end(
    made: Made, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The damaged one is named and kept under another name."""
    latest = copied / "run/checkpoints" / str(LATEST)
    damage(only(latest, "rest/ocdbt.process_0/d/*"), "truncated", latest)
    fit(experiment(copied / "log"), copied / "run")
    told = capsys.readouterr().err
    assert f"warning: {latest}: is damaged" in told and f"goes on at step {LATEST - 1}" in told
    assert latest.with_name(f"{LATEST}.damaged").is_dir()
    assert evaluated(copied / "run") == made.final.measured
    assert validations(copied / "run") == made.final.validations


def test_a_missing_best_checkpoint_is_not_replaced_by_the_latest(copied: Path) -> None:
    best = copied / "run/checkpoints" / str(BEST)
    shutil.rmtree(best)
    for use in (evaluate_run, lambda run: fit(experiment(copied / "log"), run)):
        with refused(best):
            use(copied / "run")


def test_a_removed_result_is_made_again(made: Made, copied: Path) -> None:
    fit(experiment(copied / "log"), copied / "run")
    evaluate_run(copied / "run")
    (copied / "run/result.json").unlink()
    progress = fit(experiment(copied / "log"), copied / "run")
    assert progress.ended and evaluated(copied / "run") == made.final.measured
