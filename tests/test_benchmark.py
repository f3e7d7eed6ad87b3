"""What the benchmark does in which order, what it makes of it, and the form of its report."""

import json
import statistics
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from siren_rope_jax.base.config import load_config_file
from siren_rope_jax.studies.benchmark import Report, benchmark, measured, ratios
from siren_rope_jax.studies.contestants import Contestant
from siren_rope_jax.training.kinds import read_experiment
from tests.refusals import refused
from tests.scripts import ROOT, complaint, printed

CONFIG = "--config=configs/benchmark.py"
TINY = [
    CONFIG,
    "--config.model.width=16",
    "--config.data.length=12",
    "--config.data.batch_size=8",
    "--config.training.slices=2",
]
RATIOS = [
    "torch_eager",
    "torch_compiled",
    "siren_over_ordinal_train",
    "siren_over_ordinal_inference",
    "loop_over_step",
    "of_matrix_peak",
]


def test_contestants_take_turns_and_every_round_begins_with_another() -> None:
    called: list[str] = []
    names = ["a", "b", "c"]

    def contestant(name: str) -> Contestant:
        return Contestant(lambda calls: called.append(name) if calls == 1 else None, untimed=2)

    samples = measured({name: contestant(name) for name in names}, rounds=4, seconds=0)
    assert {name: len(values) for name, values in samples.items()} == dict.fromkeys(names, 4)
    assert all(seconds > 0 for values in samples.values() for seconds in values)
    warm, rounds = called[: len(names)], called[len(names) :]
    assert warm == names and "".join(rounds) == "abcbcacababc"


def test_a_measurement_takes_about_the_seconds_that_it_should() -> None:
    calls: list[int] = []

    def run(count: int) -> None:
        calls.append(count)
        end = time.perf_counter() + 0.004 * count
        while time.perf_counter() < end:
            pass

    (samples,) = measured({"only": Contestant(run)}, rounds=2, seconds=0.1).values()
    assert 1 <= calls[-1] <= 25  # fewer on a busy machine
    assert all(seconds >= 0.004 for seconds in samples)


def test_a_ratio_is_the_median_of_those_within_a_round() -> None:
    samples = {"slow": [2.0, 30.0, 6.0], "train": [1.0, 10.0, 3.0]}  # a busy second round
    by_round = {"siren": ratios(samples["slow"], samples["train"]), "torch_eager": None}
    report = Report({}, {}, by_round, {"extra_flops": 0.25}, samples, {"torch_eager": "no torch"})
    assert report.as_json()["ratios"] == {"siren": 2.0, "torch_eager": None}
    text = report.as_text()
    assert "no torch" in text and "25.00 %" in text
    (line,) = (line for line in text.splitlines() if line.startswith("siren"))
    assert line.split()[1:] == ["2.000", "2.000", "2.500"]


@pytest.mark.slow
def test_its_report_has_all_ratios_and_what_they_are_made_of(tmp_path: Path) -> None:
    output = tmp_path / "benchmark.json"
    text = printed("benchmark", *TINY, "--rounds=2", "--seconds=0.01", f"--output={output}")
    report = json.loads(output.read_text())
    assert list(report) == ["machine", "config", "ratios", "exact", "samples"]
    assert report["config"]["model"]["width"] == 16
    assert list(report["ratios"]) == RATIOS
    assert list(report["exact"]) == ["extra_flops", "extra_parameters", "extra_bytes"]
    assert all(value > 0 for value in report["exact"].values())
    assert all(len(seconds) == 2 for seconds in report["samples"].values())
    samples = report["samples"]
    within = [a / b for a, b in zip(samples["loop"], samples["train"], strict=True)]
    assert report["ratios"]["loop_over_step"] == pytest.approx(statistics.median(within))
    assert report["ratios"]["of_matrix_peak"] > 0
    for name in RATIOS:
        assert name in text
        needs_torch = name.startswith("torch")
        assert (report["ratios"][name] is None) == (needs_torch and find_spec("torch") is None)
    if find_spec("torch") is None:
        assert "pip install 'siren-rope-jax[bench]'" in text


@pytest.mark.parametrize(
    ("about", "path", "variant", "changes"),
    [
        ("config.kind", "configs/next_item.py", "siren_rope", {}),
        ("config.model.encoding", "configs/synthetic.py", "ordinal", {}),
        ("config.model.block", "configs/synthetic.py", "siren_rope", {"model.block": "hstu"}),
        ("config.optimizer", "configs/synthetic.py", "siren_rope", {"optimizer.accumulate": 2}),
    ],
)
def test_what_cannot_be_measured_is_refused(
    about: str, path: str, variant: str, changes: dict[str, object]
) -> None:
    config = load_config_file(ROOT / path, changes, variant)
    with refused(about):
        benchmark(read_experiment(config), rounds=1, seconds=0)


def test_a_report_without_a_place_is_refused_before_anything_is_measured() -> None:
    said = complaint("benchmark", CONFIG, "--output=/nowhere/to/be/found.json")
    assert said.startswith("--output: ")
