"""Trains many runs, one after another or several at a time on separate CPU cores."""

import multiprocessing
import os
import platform
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

import jax

from siren_rope_jax import __version__
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import write_json
from siren_rope_jax.evaluation.evaluate import evaluate_run, headline
from siren_rope_jax.studies.ablation import Run
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.loop import fit

Train = Callable[[ExperimentConfig, Path], Any]
ERROR_FILE = "error.txt"


def train_and_evaluate(config: ExperimentConfig, workdir: Path) -> dict[str, Any]:
    """Trains (or goes on training) a run, and evaluates its best checkpoint on the test split.

    Returns:
      what result.json holds.

    Raises:
      UserError: as `fit`.
    """
    fit(config, workdir)
    return evaluate_run(workdir)


def execute(runs: list[Run], jobs: int, train: Train = train_and_evaluate) -> list[str]:
    """Trains the runs that are not finished, `jobs` at a time.

    A run that fails, even one whose process dies, does not stop the others. Its traceback stays in
    error.txt in its directory until the run is tried again.

    Args:
      runs: as planned.
      jobs: number of runs at a time, each in its own process; 1 trains in this process.
      train: trains and evaluates one config in a directory; a module-level function, because the
        processes import it by name.

    Returns:
      one message per failed run.
    """
    todo = [run for run in runs if not run.is_finished()]
    print(f"{len(runs)} runs, {len(runs) - len(todo)} of them finished before", flush=True)
    failures = []
    for done, (run, error) in enumerate(_results(todo, jobs, train), start=1):
        name = f"{run.dataset}/{run.variant}/seed_{run.seed}"
        if error is None:
            print(f"[{done}/{len(todo)}] {name}: {headline(run.result())}", flush=True)
        else:
            failures.append(f"{name}: {error}")
            print(f"[{done}/{len(todo)}] {name}: FAILED: {error}", flush=True)
    return failures


def _results(todo: list[Run], jobs: int, train: Train) -> Iterator[tuple[Run, str | None]]:
    """Every run with its error message, if any, in the order in which they end."""
    if jobs == 1:
        for run in todo:
            yield run, _train_one(run, train)
        return
    shares: SimpleQueue[tuple[list[int], int, str]] = SimpleQueue()

    def in_own_process(run: Run) -> str | None:
        share = shares.get()
        try:
            return _train_in_process(run, train, share)
        finally:
            shares.put(share)

    with TemporaryDirectory() as compiled, ThreadPoolExecutor(jobs) as threads:
        for cores in core_shares(jobs):
            shares.put((cores, jobs, compiled))
        waiting = {threads.submit(in_own_process, run): run for run in todo}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _train_in_process(run: Run, train: Train, share: tuple[list[int], int, str]) -> str | None:
    context = multiprocessing.get_context("spawn")  # a fork of a process with JAX threads can hang
    try:
        with ProcessPoolExecutor(1, context, _set_up_process, share) as process:
            return process.submit(_train_one, run, train).result()
    except BrokenProcessPool:
        message = "its process died; it may have been killed, or have run out of memory"
        return _note_error(run, message, message)


def core_shares(jobs: int) -> list[list[int]]:
    """The CPU cores of each process: disjoint if there are enough, else shared in turn."""
    cores = available_cores()
    return [cores[job % len(cores) :: jobs] for job in range(jobs)]


def available_cores() -> list[int]:
    """The CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _set_up_process(cores: list[int], jobs: int, compiled: str) -> None:
    """Limits a process to its share of the machine, before JAX starts.

    Compiled programs go to the folder `compiled`, because runs that differ in the seed share them.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    # Otherwise every process would reserve three quarters of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", str(round(0.9 / jobs, 2)))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", compiled)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _train_one(run: Run, train: Train) -> str | None:
    (run.workdir / ERROR_FILE).unlink(missing_ok=True)
    try:
        train(run.config, run.workdir)
        write_json(run.workdir / "machine.json", {"machine": machine()})
    except UserError as error:
        return _note_error(run, str(error), traceback.format_exc())
    except Exception as error:  # whatever went wrong, the other runs can go on
        first_line = next(iter(str(error).splitlines()), "")
        message = f"{type(error).__name__}: {first_line} (see {run.workdir / ERROR_FILE})"
        return _note_error(run, message, traceback.format_exc())
    return None


def _note_error(run: Run, message: str, text: str) -> str:
    """Writes the text to the run's directory and returns the message."""
    run.workdir.mkdir(parents=True, exist_ok=True)
    (run.workdir / ERROR_FILE).write_text(text.rstrip() + "\n", encoding="utf-8")
    return message


def machine() -> str:
    """The CPU model, the number of cores, the accelerator if JAX uses one, and versions."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            models = (line.partition(":")[2].strip() for line in lines if "model name" in line)
            name = next(models, name)
    cores = len(available_cores())
    text = f"{name}, {cores} {'core' if cores == 1 else 'cores'}"
    devices = jax.devices()
    if devices[0].platform != "cpu":
        text += f"; {len(devices)} x {devices[0].device_kind}"
    versions = (f"{name} {version(name)}" for name in ("jax", "flax"))
    return f"{text}; {', '.join(versions)}, siren-rope-jax {__version__}"
