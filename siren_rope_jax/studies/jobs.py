"""Trains many runs, one after another or several at a time on separate CPU cores."""

import ctypes
import multiprocessing
import os
import platform
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import jax

from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import write_json
from siren_rope_jax.base.version import __version__
from siren_rope_jax.evaluation.evaluate import evaluate_run
from siren_rope_jax.training.experiment import ExperimentConfig
from siren_rope_jax.training.interruption import ending_on_sigterm
from siren_rope_jax.training.loop import fit

Train = Callable[[ExperimentConfig, Path], Any]
ERROR_FILE = "error.txt"
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""The environment in which glibc takes large blocks of memory in huge pages, read when a process
starts: each step allocates its temporaries again, and the kernel clears their pages."""
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl


class Run(Protocol):
    """A training of a study; `ablation.Run` and `sweep.Trial` are such."""

    @property
    def name(self) -> str: ...
    @property
    def workdir(self) -> Path: ...
    @property
    def config(self) -> ExperimentConfig: ...
    def is_finished(self) -> bool: ...
    def headline(self) -> str: ...


def train_and_evaluate(config: ExperimentConfig, workdir: Path) -> dict[str, Any]:
    """Trains (or goes on training) a run and tests its best checkpoint; returns the result.json.

    A run for fewer epochs does not go on: it would not be one like the others.
    """
    with ending_on_sigterm():
        if not fit(config, workdir, longer=False).ended:
            sys.exit(0)  # after SIGTERM, which all other runs get too
        return evaluate_run(workdir, calibrated=False)  # as the others, which are compared with it


def execute(runs: Sequence[Run], jobs: int, train: Train = train_and_evaluate) -> list[str]:
    """Trains the runs that are not finished, and returns one message per failed run.

    A run that fails, even one whose process dies, does not stop the others. Its traceback stays in
    error.txt in its directory until the run is tried again.

    With several `jobs` at a time, each run has its own process, which imports `train` by its name.
    """
    todo = [run for run in runs if not run.is_finished()]
    print(f"{len(runs)} runs, {len(runs) - len(todo)} of them finished before", flush=True)
    failures = []
    for done, (run, error) in enumerate(_results(todo, jobs, train), start=1):
        if error:
            failures.append(f"{run.name}: {error}")
        told = f"FAILED: {error}" if error else run.headline()
        print(f"[{done}/{len(todo)}] {run.name}: {told}", flush=True)
    return failures


def _results(todo: list[Run], jobs: int, train: Train) -> Iterator[tuple[Run, str | None]]:
    """Every run with its error message, if any, in the order in which they end."""
    if jobs == 1:
        yield from ((run, _train_one(run, train)) for run in todo)
        return
    shares: SimpleQueue[list[int]] = SimpleQueue()
    for cores in core_shares(jobs):
        shares.put(cores)

    def in_own_process(run: Run) -> str | None:
        cores = shares.get()
        context = multiprocessing.get_context("spawn")  # a fork with threads of JAX can hang
        try:
            share = (cores, jobs, compiled)
            with ProcessPoolExecutor(1, context, _set_up_process, share) as process:
                return process.submit(_train_in_process, run, train).result()
        except BrokenProcessPool:
            message = "its process died; it may have been killed, or have run out of memory"
            return _note_error(run, message, message)
        finally:
            shares.put(cores)

    for name, value in HUGE_PAGES.items():
        os.environ.setdefault(name, value)
    with TemporaryDirectory() as compiled, ThreadPoolExecutor(jobs) as threads:
        waiting = {threads.submit(in_own_process, run): run for run in todo}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


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
    """Limits a process to its share of the machine, before JAX starts."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if sys.platform == "linux":  # SIGTERM if the ablation is killed, so that it saves and ends
        ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGTERM)
    # Otherwise every process would reserve three quarters of a GPU's memory.
    os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", str(round(0.9 / jobs, 2)))
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # runs that differ in seed share programs
        jax.config.update("jax_compilation_cache_dir", compiled)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _train_in_process(run: Run, train: Train) -> str | None:
    try:
        return _train_one(run, train)
    except SystemExit:  # after SIGTERM: there may be no parent that waits for an answer
        os._exit(0)


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
    info, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if info.is_file() and (model := re.search(r"model name\s*: (.*)", info.read_text("utf-8"))):
        name = model[1].strip()
    cores, devices = len(available_cores()), jax.devices()
    parts = [f"{name}, {cores} core{'s' * (cores > 1)}"]
    if devices[0].platform != "cpu":
        parts.append(f"{len(devices)} x {devices[0].device_kind}")
    versions = f"jax {version('jax')}, flax {version('flax')}, siren-rope-jax {__version__}"
    return "; ".join([*parts, versions])
