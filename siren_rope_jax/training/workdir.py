"""The directory that a run owns: whose it is, which data it was trained on, and by what version.

config.json describes the experiment; data.json names the prepared log and the version.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError
from siren_rope_jax.base.files import LOCK, json_digest, locked, read_json, write_json
from siren_rope_jax.base.stores import absolute
from siren_rope_jax.base.version import __version__
from siren_rope_jax.data.log import PreparedLog
from siren_rope_jax.training.experiment import ExperimentConfig, identity, without_execution
from siren_rope_jax.training.kinds import read_experiment
from siren_rope_jax.training.older_runs import present_config


@contextmanager
def owned(
    workdir: Path, config: ExperimentConfig, fingerprint: str, longer: bool = False
) -> Iterator[None]:
    """As `claim_workdir`, and keeps other processes from training there meanwhile.

    Raises:
      UserError: another process trains there, or as `claim_workdir`.
    """
    _refuse_foreign(workdir)  # before a lock is put into it
    with locked(workdir, "another process trains in it; wait for it, or choose another --workdir"):
        claim_workdir(workdir, config, fingerprint, longer)
        yield


def claim_workdir(
    workdir: Path, config: ExperimentConfig, fingerprint: str, longer: bool = False
) -> None:
    """Makes `workdir` this experiment's, on these data, by its config.json and data.json.

    As long as it holds neither a checkpoint nor a result, another experiment may claim it.

    Args:
      workdir: made if need be.
      config: of the experiment; where its data lie does not matter, only what they are, and
        config.json is kept up to date with it.
      fingerprint: of the prepared log.
      longer: also if the same experiment has begun there for fewer epochs, which data.json then
        lists as `epochs_before`, or with less patience.

    Raises:
      UserError: it belongs to another experiment (the first differing key is named), to other
        data, was begun by another version of this package, or holds files but no config.json.
    """
    _refuse_foreign(workdir)
    if not _has_begun(workdir):
        _begin(workdir, config, fingerprint)
        return
    begun = trained_with(workdir)
    if begun != __version__:
        raise UserError(
            workdir,
            f"was begun by siren-rope-jax {begun or '(no version)'}; {__version__} may compute "
            "otherwise, so it uses such a run but does not continue its training. Install "
            "that version for it, or train in another --workdir",
        )
    present = load_config(workdir)
    difference = first_difference(identity(present), identity(config), "config")
    goes_on = difference is not None and longer and _is_longer(config, than=present)
    if difference and not goes_on:
        raise UserError(
            workdir,
            f"belongs to another experiment: {difference}; choose another --workdir, or remove "
            "this one",
        )
    check_data(workdir, fingerprint)
    if not longer and (before := epochs_before(workdir)):
        raise UserError(
            workdir,
            f"was first trained for {before[-1]} epochs and then for longer, which is another "
            "training than one in one go; choose another --workdir, or remove this one",
        )
    if goes_on:
        _lengthen(workdir, present, config)
    _note_path(workdir, config.data.path)


def _refuse_foreign(workdir: Path) -> None:
    """Refuses a file, and a directory with the files of something else than a run."""
    try:
        if workdir.exists() and not workdir.is_dir():
            raise UserError(workdir, "is a file, not a directory; choose another --workdir")
        ours = (workdir / "config.json").exists() or not workdir.exists() or _is_unclaimed(workdir)
    except OSError as error:
        raise UserError(workdir, f"cannot be used: {error.strerror}") from error
    if not ours:
        raise UserError(workdir, "is not empty and has no config.json; choose another --workdir")


def _is_unclaimed(workdir: Path) -> bool:
    """Whether it is empty, or holds only what an interrupted claim leaves."""
    begun = (".data.json.", ".config.json.")  # by `write_json`
    names = [path.name for path in workdir.iterdir()]
    return all(name in ("data.json", LOCK) or name.startswith(begun) for name in names)


def _has_begun(workdir: Path) -> bool:
    """Whether it holds what would be lost: a checkpoint or a result."""
    kept = [*workdir.glob("checkpoints/[0-9]*"), *workdir.glob("result*.json")]
    return bool(kept) or (workdir / "checkpoints").is_file()


def _begin(workdir: Path, config: ExperimentConfig, fingerprint: str) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "calibration.json"):  # of one that has no checkpoint any more
            (workdir / name).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(workdir, f"cannot be made: {error.strerror}") from error
    resolved = _resolved(config)
    about = {"fingerprint": fingerprint, "trained_with": __version__}
    write_json(workdir / "data.json", about | {"identity": _identity_digest(resolved)})
    write_json(workdir / "config.json", resolved)


def _is_longer(config: ExperimentConfig, than: ExperimentConfig) -> bool:
    """Whether it is the same experiment, but for no fewer epochs and no less patience."""
    ours, theirs = config.training, than.training
    lengthened = replace(theirs, epochs=ours.epochs, patience=ours.patience)
    return (
        ours.epochs >= theirs.epochs
        and ours.patience >= theirs.patience
        and identity(replace(than, training=lengthened)) == identity(config)
    )


def _lengthen(workdir: Path, present: ExperimentConfig, config: ExperimentConfig) -> None:
    """Writes the longer config. If killed between its two files, it can be done again."""
    resolved, about = _resolved(config), read_json(workdir / "data.json")
    if (digest := _identity_digest(resolved)) != about.get("identity", digest):
        about["identity_before"] = [*about.get("identity_before", []), about["identity"]]
        about["identity"] = digest
    if config.training.epochs > present.training.epochs:
        before = {*about.get("epochs_before", []), present.training.epochs}
        about["epochs_before"] = sorted(before)
    write_json(workdir / "data.json", about)
    write_json(workdir / "config.json", resolved)


def _resolved(config: ExperimentConfig) -> Any:
    """The content of config.json."""
    resolved = json.loads(json.dumps(to_dict(config)))
    resolved["data"]["path"] = absolute(config.data.path)
    return resolved


def epochs_before(workdir: Path) -> list[float]:
    """The numbers of epochs that a run was to be trained for before it was trained for longer.

    Such a run is another one than if it had been trained in one go: its learning rate fell to its
    end, and rose again.
    """
    path = workdir / "data.json"
    before = read_json(path).get("epochs_before", []) if path.is_file() else []
    # Those that a claim noted which was killed before it wrote config.json do not count.
    return [e for e in before if e < read_json(workdir / "config.json")["training"]["epochs"]]


def run_digest(workdir: Path) -> str:
    """Identifies a run, however long it is trained: its experiment and its data.

    Empty if `workdir` does not hold one.
    """
    paths = workdir / "config.json", workdir / "data.json"
    if not all(path.is_file() for path in paths):
        return ""
    config, data = map(read_json, paths)
    lasting = ("epochs", "patience")
    training = {key: value for key, value in config["training"].items() if key not in lasting}
    return json_digest([without_execution(config | {"training": training}), data["fingerprint"]])


def _identity_digest(config: Mapping[str, Any]) -> str:
    """Of a config as JSON values: as it was written, whatever later versions add."""
    return json_digest(without_execution(dict(config)))


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
    values, path = read_json(workdir / "config.json"), absolute(log)
    if values["data"]["path"] != path:
        values["data"]["path"] = path
        write_json(workdir / "config.json", values)


def check_data(workdir: Path, fingerprint: str) -> None:
    """Refuses a prepared log that is not the one a run was trained on.

    Raises:
      UserError: it is another one, or nothing says which one it was.
    """
    if about_run(workdir)["fingerprint"] != fingerprint:
        raise UserError(
            workdir,
            "was trained on other data than the log holds (was it prepared again?); choose another "
            "--workdir, or restore the log",
        )


def about_run(workdir: Path) -> dict[str, Any]:
    """The content of a run's data.json.

    Raises:
      UserError: it is missing or damaged, or config.json beside it is of another run.
    """
    path, config = workdir / "data.json", workdir / "config.json"
    if not path.is_file():
        raise UserError(path, "is missing, so nothing says on which data the run was trained")
    about = read_json(path)
    if config.is_file() and "identity" in about:
        known = [about["identity"], *about.get("identity_before", [])]
        if _identity_digest(read_json(config)) not in known:
            raise UserError(
                config, "and data.json beside it are of different runs; restore the right one"
            )
    return about


def trained_with(workdir: Path) -> str:
    """The version of this package that began a run; empty if data.json does not say it.

    Raises:
      UserError: as `about_run`.
    """
    return about_run(workdir).get("trained_with", "")


def load_config(workdir: Path) -> ExperimentConfig:
    """The config of a run, from its config.json; that of another version with a warning.

    Raises:
      UserError: there is none, it is of a version whose config cannot be read, or as `about_run`.
    """
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(workdir, "has no config.json, so it is not the work directory of a run")
    values, begun = read_json(path), trained_with(workdir)
    if begun != __version__:
        warnings.warn(
            f"{workdir} was trained by siren-rope-jax {begun or '(no version)'}; "
            f"{__version__} may compute otherwise",
            stacklevel=2,
        )
    return read_experiment(present_config(values, begun, str(path)))


def first_difference(theirs: Any, ours: Any, where: str) -> str | None:
    """The first dotted key below `where` in which two trees of JSON values differ, in words."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            found = first_difference(theirs.get(key), ours.get(key), f"{where}.{key}")
            if found:
                return found
        return None
    return None if theirs == ours else f"its {where} is {theirs!r}, not {ours!r}"
