"""Trains many runs, one after the other or several at a time, each on its share of the cores."""

import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from siren_rope_jax.ablation import Run
from siren_rope_jax.errors import UserError
from siren_rope_jax.evaluate import train_and_evaluate, write_json
from siren_rope_jax.experiment import ExperimentConfig

Train = Callable[[ExperimentConfig, Path], Any]


def execute(runs: list[Run], jobs: int, train: Train = train_and_evaluate) -> list[str]:
    """Trains the runs that are not finished, `jobs` at a time.

    A run that fails for a reason its user can act on (a loss that is no longer finite, say) does
    not stop the others.

    Args:
      runs: as planned.
      jobs: processes; 1 trains in this one.
      train: trains and evaluates one config in a directory; importable by name.

    Returns:
      one message per failed run.
    """
    todo = [run for run in runs if not run.is_finished()]
    print(f"{len(runs)} runs, {len(runs) - len(todo)} of them finished before", flush=True)
    failures = []
    for done, (run, error) in enumerate(_results(todo, jobs, train), start=1):
        name = f"{run.dataset}/{run.variant}/seed_{run.seed}"
        if error is None:
            tasks = run.result()["tasks"]
            ne = ", ".join(f"{t} {v['ne']:.4f}" for t, v in tasks.items() if v["ne"] is not None)
            print(f"[{done}/{len(todo)}] {name}: NE {ne}", flush=True)
        else:
            failures.append(f"{name}: {error}")
            print(f"[{done}/{len(todo)}] {name}: FAILED: {error}", flush=True)
    return failures


def _results(todo: list[Run], jobs: int, train: Train) -> Iterator[tuple[Run, UserError | None]]:
    if jobs == 1:
        for run in todo:
            yield run, _train_one(run, train)
        return
    context = multiprocessing.get_context("spawn")  # a fork of a process with JAX threads can hang
    shares = context.Queue()
    for share in core_shares(jobs):
        shares.put(share)
    with ProcessPoolExecutor(jobs, context, _claim_cores, (shares,)) as pool:
        waiting = {pool.submit(_train_one, run, train): run for run in todo}
        try:
            for future in as_completed(waiting):
                yield waiting[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def core_shares(jobs: int) -> list[list[int]]:
    """The CPU cores of each process: disjoint where there are enough, else dealt round."""
    cores = available_cores()
    return [cores[job % len(cores) :: jobs] for job in range(jobs)]


def available_cores() -> list[int]:
    """The CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _claim_cores(shares: Any) -> None:
    """Pins a worker to its cores before JAX sizes its thread pools by them."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, shares.get())


def _train_one(run: Run, train: Train) -> UserError | None:
    try:
        train(run.config, run.workdir)
    except UserError as error:
        return error
    write_json(run.workdir / "machine.json", {"machine": machine()})
    return None


def machine() -> str:
    """Kind of CPU, number of cores, and the accelerator if JAX uses one."""
    import jax  # here, so that workers pin their cores before JAX looks at them

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            models = (line.partition(":")[2].strip() for line in lines if "model name" in line)
            name = next(models, name)
    text = f"{name}, {len(available_cores())} cores"
    devices = jax.devices()
    if devices[0].platform != "cpu":
        text += f"; {len(devices)} x {devices[0].device_kind}"
    return text
