"""The directory that a run owns: whose it is, which data it was trained on, and by what version.

config.json describes the experiment; data.json names the prepared log and the version.
"""

import warnings
from pathlib import Path
from typing import Any

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import read_json, write_json
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.training.experiment import ExperimentConfig, identity
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.older_runs import present_config


def claim_workdir(workdir: Path, config: ExperimentConfig, fingerprint: str) -> None:
    """Makes `workdir` this experiment's, on these data, by its config.json and data.json.

    Args:
      workdir: made if need be.
      config: of the experiment; where its data lie does not matter, only what they are, and
        config.json is kept up to date with it.
      fingerprint: of the prepared log.

    Raises:
      UserError: it belongs to another experiment (the first differing key is named), to other
        data, was begun by another version of this package, or holds files but no config.json.
    """
    if (workdir / "config.json").exists():
        begun = trained_with(workdir)
        if begun != __version__:
            raise UserError(
                workdir,
                f"was begun by siren-rope-jax {begun or '(no version)'}; {__version__} may compute "
                "otherwise, so it uses such a run but does not continue its training. Install "
                "that version for it, or train in another --workdir",
            )
        theirs, ours = identity(load_config(workdir)), identity(config)
        if difference := _first_difference(theirs, ours, "config"):
            raise UserError(
                workdir,
                f"belongs to another experiment: {difference}; choose another --workdir, or remove "
                "this one",
            )
        check_data(workdir, fingerprint)
        _note_path(workdir, config.data.path)
        return
    if workdir.exists() and not (workdir.is_dir() and _is_unclaimed(workdir)):
        raise UserError(workdir, "is not empty and has no config.json; choose another --workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(workdir, f"cannot be made: {error.strerror}") from error
    resolved = to_dict(config)
    resolved["data"]["path"] = str(Path(config.data.path).absolute())
    write_json(workdir / "data.json", {"fingerprint": fingerprint, "trained_with": __version__})
    write_json(workdir / "config.json", resolved)


def note_log(workdir: Path, log: str | Path) -> None:
    """Notes in config.json where a run's prepared log lies now, for it may have moved.

    Args:
      workdir: of the run.
      log: directory of the prepared log.

    Raises:
      UserError: there is no run, or it was trained on other data.
    """
    load_config(workdir)
    check_data(workdir, PreparedLog.open(log).fingerprint)
    _note_path(workdir, log)


def _note_path(workdir: Path, log: str | Path) -> None:
    values, path = read_json(workdir / "config.json"), str(Path(log).absolute())
    if values["data"]["path"] != path:
        values["data"]["path"] = path
        write_json(workdir / "config.json", values)


def check_data(workdir: Path, fingerprint: str) -> None:
    """Refuses a prepared log that is not the one a run was trained on.

    Raises:
      UserError: it is another one.
    """
    path = workdir / "data.json"
    if not path.is_file() or read_json(path)["fingerprint"] != fingerprint:
        raise UserError(
            workdir,
            "was trained on other data than the log holds (was it prepared again?); choose another "
            "--workdir, or restore the log",
        )


def trained_with(workdir: Path) -> str:
    """The version of this package that began a run; empty if nothing says so."""
    path = workdir / "data.json"
    return read_json(path).get("trained_with", "") if path.is_file() else ""


def load_config(workdir: Path) -> ExperimentConfig:
    """The config of a run, from its config.json; that of another version with a warning.

    Raises:
      UserError: there is none, or it is of a version whose config cannot be read.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(workdir, "has no config.json, so it is not the work directory of a run")
    begun = trained_with(workdir)
    if begun != __version__:
        warnings.warn(
            f"{workdir} was trained by siren-rope-jax {begun or '(no version)'}; "
            f"{__version__} may compute otherwise",
            stacklevel=2,
        )
    return read_experiment(present_config(read_json(path), begun, str(path)))


def _is_unclaimed(workdir: Path) -> bool:
    """Whether it is empty, or holds only what an interrupted claim leaves."""
    begun = (".data.json.", ".config.json.")  # by `write_json`
    names = [path.name for path in workdir.iterdir()]
    return all(name == "data.json" or name.startswith(begun) for name in names)


def _first_difference(theirs: Any, ours: Any, where: str) -> str | None:
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            found = _first_difference(theirs.get(key), ours.get(key), f"{where}.{key}")
            if found:
                return found
        return None
    return None if theirs == ours else f"its {where} is {theirs!r}, not {ours!r}"
