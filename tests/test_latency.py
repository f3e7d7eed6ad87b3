"""The latency table has every measurement that it promises."""

import pytest

from siren_rope_jax.base.config import load_config_file
from siren_rope_jax.studies.latency import latency
from siren_rope_jax.training.kinds import read_experiment
from tests.refusals import refused
from tests.scripts import ROOT, complaint


def config(name: str, **overrides):
    return read_experiment(load_config_file(ROOT / f"configs/{name}.py", overrides))


@pytest.mark.slow
def test_the_table_has_a_row_for_each_history():
    small = config("benchmark", **{"model.width": 16, "model.layers": 1})
    found = latency(small, [4, 9], [1, 1_000], swept=2, rounds=2)
    assert set(found.score) == {(h, n) for h in (4, 9) for n in (1, 1_000)}
    for of_history in (found.encode, found.append, found.full, found.sweep, found.score):
        assert all(len(s) == 2 and min(s) > 0 for s in of_history.values())
    assert found.speedup(9, 1_000)[0] > 1
    rows = [line for line in found.as_text().splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[1:]] == ["| 4", "| 9"]


def test_what_cannot_be_measured_is_refused():
    with refused("config.kind", "retrieval"):
        latency(config("next_item"), [4], [1], 1, 1)
    line = complaint("latency", f"--config={ROOT}/configs/benchmark.py", "--candidates=1,x")
    assert line.startswith("--candidates: ")
