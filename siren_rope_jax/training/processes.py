"""The processes of a run: how they join, which of them writes, and that all were started alike."""

import json
import os
import re
import sys
import threading
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from siren_rope_jax.base.errors import UserError

PATIENCE = 60.0
"""Seconds that a process waits for the others by default."""


def join(where: str, seconds: float = PATIENCE) -> None:
    """Joins the processes of a run; must come before anything else touches JAX.

    After so many seconds without the others the process ends with one line and status 2, for JAX
    would abort it with a trace of its own.

    Args:
      where: "auto" where JAX knows the cluster, else "HOST:PORT,PROCESSES,INDEX".
      seconds: to wait for the others.

    Raises:
      UserError: `where` is something else, or the processes cannot be joined (JAX says why).
    """
    given: dict[str, Any] = {}
    if where != "auto":
        parts = re.fullmatch(r"([^,]+),(\d+),(\d+)", where)
        processes, index = (int(parts[2]), int(parts[3])) if parts else (0, 0)
        if not parts or index >= processes:
            form = "HOST:PORT,PROCESSES,INDEX with an index from 0 to PROCESSES - 1"
            raise UserError("--distributed", f"{where!r} is neither 'auto' nor {form}")
        given = {"coordinator_address": parts[1], "num_processes": processes, "process_id": index}
    last = threading.Timer(seconds, _end_alone, [where, seconds])
    last.daemon = True
    last.start()
    try:
        jax.distributed.initialize(**given, initialization_timeout=2 * max(int(seconds), 1))
    except (ValueError, RuntimeError) as error:
        raise UserError("--distributed", f"{where!r}: cannot join: {error}") from error
    finally:
        last.cancel()


def _end_alone(where: str, seconds: float) -> None:
    """Ends this process from another thread while the main one waits in JAX."""
    why = (
        f"{where!r}: not all processes came within {seconds:g} seconds (--join_seconds); start all "
        "of them at about the same time, each with the address of process 0, which the others must "
        "be able to reach"
    )
    print(f"error: {UserError('--distributed', why)}", file=sys.stderr, flush=True)
    os._exit(2)


def is_main() -> bool:
    """Whether this is the process that writes files and prints; every process computes."""
    return jax.process_index() == 0


def check_alike(started: dict[str, Any]) -> None:
    """Refuses, in all processes, that they were started differently.

    Args:
      started: what must be the same in all processes, as JSON values by name.

    Raises:
      UserError: about the first name whose value differs from the main process's.
    """
    if jax.process_count() == 1:
        return
    own = json.dumps(started, sort_keys=True).encode()
    size = int(multihost_utils.broadcast_one_to_all(np.array(len(own))))
    padded = np.frombuffer(own[:size].ljust(size), np.uint8)
    of_main = json.loads(bytes(multihost_utils.broadcast_one_to_all(padded)))
    names = sorted(started.keys() | of_main.keys())
    differing = [name for name in names if started.get(name) != of_main.get(name)]
    everywhere = multihost_utils.process_allgather(np.array(len(differing)))
    if differing:
        name = differing[0]
        about = f"is {started.get(name)!r} in this process, {of_main.get(name)!r} in the main one"
        raise UserError(name, f"{about}; start all processes with the same flags and log")
    if everywhere.any():
        others = ", ".join(map(str, np.flatnonzero(everywhere)))
        about = f"was started with other flags, or another log, as process {others}"
        raise UserError("--distributed", f"{about}; start all processes alike")
