"""Language models: signals of the past alone, bits per byte, and a corpus from end to end."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from siren_rope_jax.base.config import from_config_dict, load_config_file
from siren_rope_jax.base.times import NO_TIME
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.data.schema import TEST, TRAIN, VALIDATION
from siren_rope_jax.evaluation.evaluate import evaluate_run
from siren_rope_jax.inference.encoded import encode
from siren_rope_jax.inference.export import export
from siren_rope_jax.metrics.bits import BitColumns, metrics_of_tokens
from siren_rope_jax.models.batch import DataSpec, NextItemBatch
from siren_rope_jax.models.retriever import Retriever, RetrieverConfig
from siren_rope_jax.prepare.corpus import CorpusConfig, generate
from siren_rope_jax.prepare.documents import Document
from siren_rope_jax.prepare.text_layout import bracket_depth, layout
from siren_rope_jax.rotation.rotate import ladder
from siren_rope_jax.rotation.time import Time, TimeScale
from siren_rope_jax.rotation.variants import LANGUAGE_VARIANTS, LAYOUT, language_variant
from siren_rope_jax.studies.ablation import Ablation, plan
from siren_rope_jax.studies.analysis import analyze
from siren_rope_jax.studies.count_kernels import count_kernels, draw_kernels
from siren_rope_jax.studies.report import run_and_report
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.loop import fit
from siren_rope_jax.training.trained import TrainedRun
from tests.batches import START, trained, variants
from tests.drawn import drawn_figures
from tests.made_up import make_log
from tests.refusals import refused
from tests.scripts import printed

PYTHON = 'def f(x):\n    return [x, (1,\n\t "a)b")]  # (\n\nY = {\n'


def test_the_layout_of_a_text() -> None:
    signals = layout(b"ab\n  c d\n\n \t")
    assert signals["line"].tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 3, 3]
    assert signals["column"].tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 0, 0, 1]
    assert signals["indent"].tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2, 0, 0, 1]
    assert all(len(signal) == 0 for signal in layout(b"").values())


def test_brackets_in_strings_and_comments_do_not_count() -> None:
    of = bracket_depth(PYTHON.encode())
    assert of[PYTHON.index("x):")] == 1 and of[PYTHON.index(":\n")] == 0
    assert of[PYTHON.index("1,")] == 2 and of[PYTHON.index("a)b")] == 2
    assert of[PYTHON.index("\n\nY")] == 0 and of[-1] == 1
    accented = 'é = "é"; (x)'
    assert bracket_depth(accented.encode())[accented.encode().index(b"x")] == 1


@given(st.text("ab (\t\n[])\"'#\\é", max_size=40), st.text("a (\n])\"'\\é", max_size=10))
@example('"(a', '"')
@example('""', '"(')
@example("'(\n(", "'")
def test_signals_are_known_from_the_past_alone(past: str, future: str) -> None:
    """What follows a byte changes none of its signals, nor of those before it."""
    alone, longer = past.encode(), (past + future).encode()
    for name, signal in layout(alone).items():
        np.testing.assert_array_equal(signal, layout(longer)[name][: len(alone)])
    np.testing.assert_array_equal(bracket_depth(alone), bracket_depth(longer)[: len(alone)])


DATA = DataSpec(
    {"item": 12},
    (),
    context_length=10,
    scale=TimeScale.fit(START, START + 1000),
    counts={"line": 6, "column": 20, "indent": 8, "depth": 4, "since_newline": 9},
)


def random_tokens(seed: int = 0, rows: int = 2) -> NextItemBatch:
    rng = np.random.default_rng(seed)
    shape = (rows, 11)
    tokens = rng.integers(1, 12, shape).astype(np.int32)
    counts = [rng.integers(0, most, shape) for most in DATA.counts.values()]
    counts = np.stack(counts, -1).astype(np.int32)
    padding = NextItemBatch.padding(dataclasses.replace(DATA), rows)
    return dataclasses.replace(
        padding,
        categorical=tokens[:, :-1, None],
        target=tokens[:, 1:],
        position=np.broadcast_to(np.arange(10, dtype=np.int32), (rows, 10)),
        segment=np.ones((rows, 10), np.int32),
        event=np.arange(rows * 10, dtype=np.int32).reshape(rows, 10),
        counts=counts[:, :-1],
        request_counts=counts[:, 1:],
        time=Time.from_seconds(np.full((rows, 10), START)),
        request_time=Time.from_seconds(np.full((rows, 10), START + 50)),
    )


def small(name: str) -> tuple[Retriever, Any]:
    sizes = {"width": 40, "heads": 2, "layers": 2, "unknown_rate": 0.0}
    model = Retriever(from_config_dict(RetrieverConfig, {**sizes, **language_variant(name)}), DATA)
    return model, model.init(jax.random.key(0), random_tokens())["params"]


TEXTS = [name for name in LANGUAGE_VARIANTS if "layout" in name or "ladder" in name]
CASES = variants([*TEXTS, "ordinal", "ordinal_long_base", "learned_positions"])
SEEING = {name: LAYOUT for name in TEXTS if name.startswith("layout")} | {
    f"{count}_ladder": (count,) for count in LAYOUT
}


def query(model: Retriever, params: Any, batch: NextItemBatch) -> jax.Array:
    return model.apply({"params": params}, batch).query


@pytest.mark.parametrize("name", ["layout_ladders", "layout_network", "layout_in_embedding"])
def test_later_signals_and_tokens_change_no_earlier_query(name: str) -> None:
    """Slot 5 asks for token 6, whose signals it knows; of all that is later it knows nothing."""
    model, params = small(name)
    batch, other = random_tokens(), random_tokens(seed=1)
    before = query(model, params, batch)

    def after(**changed: np.ndarray) -> jax.Array:
        return query(model, params, dataclasses.replace(batch, **changed))

    def mixed(a: np.ndarray, b: np.ndarray, at: int) -> np.ndarray:
        return np.concatenate([a[:, :at], b[:, at:]], axis=1)

    later = {
        "categorical": mixed(batch.categorical, other.categorical, 6),
        "counts": mixed(batch.counts, other.counts, 6),
        "request_counts": mixed(batch.request_counts, other.request_counts, 6),
        "target": other.target,
    }
    np.testing.assert_allclose(after(**later)[:, :6], before[:, :6], atol=1e-5)
    own = mixed(batch.request_counts, other.request_counts, 5)
    assert np.abs(after(request_counts=own)[:, 5] - before[:, 5]).max() > 1e-4
    earlier = mixed(other.counts, batch.counts, 3)
    assert np.abs(after(counts=earlier)[:, 5] - before[:, 5]).max() > 1e-5


@pytest.mark.parametrize("name", ["layout_ladders", "layout_in_embedding", *variants(TEXTS)])
def test_no_gradient_comes_from_what_is_later(name: str) -> None:
    model, params = small(name)
    batch = random_tokens(rows=1)

    def tokens(table: jax.Array) -> jax.Array:
        """Query 5, of a row that has a table of embeddings to itself: token i is item i + 1."""
        own = {**params, "items": {"embedding": table}}
        ids = np.arange(1, 11, dtype=np.int32)[None, :, None]
        found = query(model, own, dataclasses.replace(batch, categorical=ids))
        return found[0, 5] @ jnp.arange(40.0)

    table = params["items"]["embedding"]
    gradient = jax.grad(tokens)(table).reshape(-1, table.shape[-1])
    touched = np.abs(np.asarray(gradient)).max(axis=-1) > 0
    assert touched[1:7].all() and not touched[7:].any()


@pytest.mark.parametrize("name", TEXTS)
def test_a_variant_sees_its_signals_and_no_other(name: str) -> None:
    model, params = small(name)
    batch = random_tokens()
    before = query(model, params, batch)
    for s, count in enumerate(DATA.counts):
        counts = batch.counts.copy()
        counts[:, :4, s] = (counts[:, :4, s] + 1) % DATA.counts[count]
        moved = query(model, params, dataclasses.replace(batch, counts=counts))
        seen = count in SEEING.get(name, ())
        assert (np.abs(moved - before).max() > 1e-6) == seen, count


def test_a_shift_of_all_lines_or_columns_changes_nothing_for_ladders() -> None:
    model, params = small("layout_ladders")
    batch = random_tokens()
    shifted = dataclasses.replace(
        batch, counts=batch.counts + 3, request_counts=batch.request_counts + 3
    )
    before, after = (query(model, params, b) for b in (batch, shifted))
    np.testing.assert_allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_overfits_a_tiny_batch(name: str) -> None:
    model, params = small(name)
    batch = random_tokens()

    def loss(params: Any) -> jax.Array:
        found = model.apply({"params": params}, batch)
        rows = found.table.values.reshape(-1, 40)[: DATA.items]
        logits = jnp.where(jnp.arange(DATA.items) > 0, found.query @ rows.T, -1e9)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.target[..., None], -1)
        return -chosen.mean()

    assert loss(trained(loss, params)) < 0.2 * loss(params)


def test_bits_per_byte_are_those_of_the_whole_text() -> None:
    nll, length = np.array([1.0, 2.0, 0.5]), np.array([2, 1, 4])
    measured = metrics_of_tokens(nll, np.array([True, False, False]), length)
    assert measured["bpb"] == pytest.approx(3.5 / 7 / math.log(2))
    assert measured["accuracy"] == pytest.approx(1 / 3) and measured["bytes"] == 7
    values = {"nll": nll[None], "rank": np.array([[1, 2, 9]]), "length": length[None].astype(float)}
    resampled = BitColumns("nll", "rank", "length").resample(np.array([0, 0, 1]), values)
    assert resampled["bpb"].by_seed[0] == pytest.approx(measured["bpb"])
    ends = {3 / 3 / math.log(2), 0.5 / 4 / math.log(2), measured["bpb"]}
    assert {round(x, 9) for x in resampled["bpb"].samples} == {round(x, 9) for x in ends}


MODULE = '''"""Module {n}."""

import os


def value_{n}(x):
    return [x, (os.sep, {n})]
'''


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared log of forty small modules."""
    place = tmp_path_factory.mktemp("corpus")
    modules = place / "modules"
    (modules / "test").mkdir(parents=True)
    for n in range(40):
        (modules / f"m{n}.py").write_text(MODULE.format(n=n) * 4, encoding="utf-8")
    (modules / "test" / "left_out.py").write_text("x = 1\n", encoding="utf-8")
    (modules / "latin.py").write_bytes(b"# \xe9\n")
    (modules / "the_same.py").write_bytes((modules / "m7.py").read_bytes())
    config = CorpusConfig(
        corpus="python", name="small", exclude=("test",), tokens=300, validation=0.2, test=0.2
    )
    for name in ("log", "again"):
        generate(config, modules, place / name)
    return place


def test_a_corpus_is_its_bytes_and_no_module_is_in_two_splits(corpus: Path) -> None:
    log, again = (PreparedLog.open(corpus / name) for name in ("log", "again"))
    assert log.fingerprint == again.fingerprint
    names = log.users().to_pylist()
    assert sorted(names) == sorted(f"m{n}.py" for n in range(40))
    events, values = log.events(), log.vocabulary("item")["value"].to_pylist()
    lengths = np.array([0, *map(len, values)])[events.rows["categorical/item"]]
    of_user = np.bincount(events.user, lengths)
    sizes = [(corpus / "modules" / name).stat().st_size for name in names]
    assert of_user.tolist() == sizes and len(values) == 300
    splits = {u: set(events.rows["split"][events.user == u]) for u in range(40)}
    assert {frozenset(s) for s in splits.values()} == {
        frozenset({split}) for split in (TRAIN, VALIDATION, TEST)
    }
    rows = log.history(0)
    text = (corpus / "modules" / names[0]).read_bytes()
    first = np.cumsum([0, *lengths[events.user == 0]])[:-1]
    for name, signal in {**layout(text), "depth": bracket_depth(text)}.items():
        np.testing.assert_array_equal(rows[f"count/{name}"], signal[first])
    since = rows["count/since_newline"]
    assert (since == 0).sum() == len(np.unique(rows["count/line"])) and since.max() > 3


@pytest.fixture(scope="module")
def trained_run(corpus: Path) -> Path:
    config = load_config_file(
        "configs/language/model.py",
        {
            "data.path": str(corpus / "log"),
            "data.length": 32,
            "data.stride": 16,
            "model.width": 40,
            "model.heads": 2,
            "model.layers": 1,
            "training.epochs": 12.0,
            "training.evaluations_per_epoch": 1,
        },
        "layout_ladders",
    )
    fit(read_experiment(config), corpus / "run")
    return corpus / "run"


def test_from_a_corpus_to_bits_per_byte(corpus: Path, trained_run: Path, tmp_path: Path) -> None:
    result = evaluate_run(trained_run)
    text = result["text"]
    events = PreparedLog.open(corpus / "log").events("test")
    assert text["count"] == len(events.event) - len(np.unique(events.user))
    uniform = math.log2(300) * text["count"] / text["bytes"]
    assert 0 < text["bpb"] < 0.5 * uniform
    assert json.loads((trained_run / "result.json").read_text())["protocol"] == "by_user"
    contexts = result["slices"]["context"]
    assert sum(group["count"] for group in contexts.values()) == text["count"]
    assert list(contexts) == ["1-7", "8-15", "16-31", "32-63"]
    run = TrainedRun.open(trained_run)
    with refused("run", "column"):
        encode(run, [run.log.users()[0].as_py()])
    with refused("run", "column"):
        export(run, tmp_path / "exported")


def test_a_corpus_without_times_shows_no_rotation_by_time(corpus: Path, tmp_path: Path) -> None:
    config = load_config_file(
        "configs/language/model.py",
        {"data.path": str(corpus / "log"), "training.epochs": 0.01, "model.layers": 1},
        "ordinal",
    )
    fit(read_experiment(config), tmp_path / "run")
    with refused(corpus / "log", "times"):
        analyze(TrainedRun.open(tmp_path / "run"))


def test_how_alike_two_columns_are_to_a_ladder(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = TrainedRun.open(trained_run)
    kernels = count_kernels(run)
    assert set(kernels) == {*LAYOUT}
    planes = run.config.model.planes
    for name, kernel in kernels.items():
        low, high = run.config.model.encoding[name].planes
        own = round(high * planes) - round(low * planes)
        distance = np.subtract.outer(*[np.arange(len(kernel))] * 2)
        cosines = np.cos(distance[..., None] * ladder(own, 1e3)).sum(axis=-1)
        np.testing.assert_allclose(kernel, (cosines + planes - own) / planes, atol=1e-4)
    figures = drawn_figures(monkeypatch)
    draw_kernels(tmp_path / "kernels.png", kernels, "kernels")
    images = [axes.images[0].get_array() for axes in figures[0].axes if axes.images]
    np.testing.assert_allclose(images[1], kernels["column"])
    told = printed("analyze", f"--workdir={trained_run}")
    assert "column: mean cos at distance 1: " in told
    assert kernels.keys() < json.loads((trained_run / "analysis.json").read_text()).keys()


def test_models_are_compared_at_other_lengths_where_they_reach(
    corpus: Path, tmp_path: Path
) -> None:
    small = {"data.length": 16, "data.stride": 8, "model.width": 20, "model.heads": 1,
             "model.layers": 1, "training.evaluations_per_epoch": 1}  # fmt: skip
    names = ("learned_positions", "ordinal", "layout_ladders")
    longer = {"data.tested_lengths": (32, 64)}
    study = from_config_dict(
        Ablation,
        {
            "name": "lengths",
            "variants": [
                {"name": name, "overrides": small | (longer if name != names[0] else {})}
                for name in names
            ],
            "datasets": [
                {
                    "name": "log",
                    "base": "configs/language/model.py",
                    "prepared": str(corpus / "log"),
                }
            ],
            "seeds": (0,),
            "baseline": "ordinal",
        },
    )
    runs = plan(study, tmp_path)
    assert run_and_report(study, tmp_path, runs) == []
    lengths = json.loads((tmp_path / "report.json").read_text())["datasets"]["log"]["lengths"]
    assert list(lengths) == ["32", "64"]
    for length, parts in lengths.items():
        assert set(parts[""]) == {"ordinal", "layout_ladders"}
        found = parts[""]["layout_ladders"]
        predictions = [
            pd.read_parquet(run.workdir / f"predictions_{length}.parquet") for run in runs[1:]
        ]
        bpb = [p["nll"].sum() / p["length"].sum() / math.log(2) for p in predictions]
        assert found["metrics"]["bpb"]["mean"] == pytest.approx(bpb[1], rel=1e-5)
        assert found["difference"]["bpb"]["value"] == pytest.approx(bpb[1] - bpb[0], rel=1e-3)
        assert predictions[0]["context"].max() == int(length)
    longer = TrainedRun.open(runs[1].workdir).setup
    assert longer.at_length(64).data == longer.data  # so no constant of the model changes
    text = (tmp_path / "report.md").read_text()
    assert "### In rows of 64" in text and "1970" not in text
    data = dataclasses.replace(runs[0].config.data, tested_lengths=(64,))
    with refused("config.data.tested_lengths", "64"):
        fit(dataclasses.replace(runs[0].config, data=data), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_only_a_corpus_can_be_read_by_a_language_model(tmp_path: Path) -> None:
    make_log(tmp_path / "log")
    config = load_config_file("configs/language/model.py", {"data.path": str(tmp_path / "log")})
    with refused("config.data.path", str(tmp_path / "log")):
        fit(read_experiment(config), tmp_path / "run")
    with refused("--config", "changelogs"):
        load_config_file("configs/language/model.py", {}, "ordinal,changelog")


ENTRY = "{source} (1.{n}) unstable; urgency=low\n\n  * Change {n}.\n\n -- A B <a@b.c>  {date}\n\n"
DATES = ("Tue, 02 Jan 2024 10:00:00 +0100", "not a date", "Mon, 01 Jan 2024 23:00:00 -0000")


def test_changelogs_have_each_entry_once_with_its_time_the_oldest_first(tmp_path: Path) -> None:
    for n in range(24):  # two packages for each source
        folder = tmp_path / "doc" / f"pkg{n}"
        folder.mkdir(parents=True)
        entries = [ENTRY.format(source=f"src{n // 2}", n=e, date=d) for e, d in enumerate(DATES)]
        (folder / "changelog.Debian").write_text("".join(entries), encoding="utf-8")
    (folder / "changelog.Debian.gz").write_bytes(b"\x1f\x8b\x08 damaged")
    config = CorpusConfig(corpus="changelogs", name="small", tokens=256, validation=0.3, test=0.3)
    notes = generate(config, tmp_path / "doc", tmp_path / "log")["warnings"]
    counts = {(note.split()[0], note.split()[1]) for note in notes}
    assert counts == {("1", "files"), ("24", "entries")}
    log = PreparedLog.open(tmp_path / "log")
    assert sorted(log.users().to_pylist()) == sorted(f"src{n}" for n in range(12))
    rows = log.history(0)
    values = log.vocabulary("item")["value"].to_pylist()
    written = "".join(values[i - 1] for i in rows["categorical/item"])
    old, new = written.index("Change\u01202"), written.index("Change\u01200")
    assert old < new and written.count("Change") == 2 and "a@b.c" not in written
    lengths = [len(values[i - 1]) for i in rows["categorical/item"]]
    time = np.repeat(rows["time"], lengths)
    first, second = 1_704_150_000, 1_704_186_000
    assert time[old] == first and time[new] == second
    head = written.index("(1.0)")  # of the second entry
    assert old < head < new and time[head] == first and time[0] == NO_TIME
    assert set(rows["utc_offset"][rows["time"] == second]) == {3600}
    assert log.schema.has_utc_offset
    in_train = log.events("train").rows["time"]
    assert log.schema.train_end == in_train.max() + 1


def test_the_beginning_of_a_document_ends_where_it_is_cut() -> None:
    document = Document("d", [(b"ab", 1, 0), ("é…x".encode(), 2, 0), (b"zz", 3, 0)])
    for most in range(12):
        beginning = document.beginning(most).text
        assert (document.text.startswith(beginning) and most - 2 <= len(beginning) <= most) or (
            beginning == document.text
        )
    assert document.beginning(5).parts == [(b"ab", 1, 0), ("é".encode(), 2, 0)]
    assert document.beginning(1).parts == [(b"a", 1, 0)]


def test_what_a_corpus_cannot_be(tmp_path: Path) -> None:
    config = CorpusConfig(corpus="python", name="small")
    with refused(tmp_path / "nowhere"):
        generate(config, tmp_path / "nowhere", tmp_path / "log")
    with refused(tmp_path, "train"):
        generate(config, tmp_path, tmp_path / "log")
    assert not (tmp_path / "log").exists()
    with refused("tokens", "256"):
        CorpusConfig(corpus="python", name="small", tokens=10)
