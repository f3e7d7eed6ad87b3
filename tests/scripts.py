"""The scripts of `experiments/` as users run them: in processes of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def xla_flags(devices: int) -> str:
    """XLA_FLAGS as they are, but for so many virtual CPU devices."""
    ours = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ["XLA_FLAGS"])
    return f"{ours} --xla_force_host_platform_device_count={devices}"


def run(
    name: str, *flags: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs `experiments/<name>.py` to its end, in our environment with changes."""
    return subprocess.run(
        [sys.executable, str(ROOT / f"experiments/{name}.py"), *flags],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def printed(name: str, *flags: str, **environment: str) -> str:
    """What the script prints; it must succeed."""
    done = run(name, *flags, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def restored_step(stderr: str) -> int:
    """The step that a training went on from, or at which it had ended, as it says; 0: none."""
    found = re.search(r"the training (goes on|has ended) at step (\d+)", stderr)
    return int(found[2]) if found else 0


def checkpoints(workdir: Path) -> set[str]:
    """The steps of those that a training has saved and that are complete."""
    found = workdir.glob("checkpoints/*/_CHECKPOINT_METADATA")
    return {path.parent.name for path in found if path.parent.name.isdigit()}


def has_checkpoint(workdir: Path) -> bool:
    """Whether a training has saved one that is complete."""
    return bool(checkpoints(workdir))


def complaint(name: str, *flags: str, cwd: Path = ROOT) -> str:
    """The one line that the script says before it ends with status 2, without "error: "."""
    done = run(name, *flags, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("error: ").removesuffix("\n")
