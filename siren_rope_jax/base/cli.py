"""How every script starts: flags and config overrides, and errors as one line and exit status 2."""

import functools
import itertools
import os
import re
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from absl import flags, logging
from ml_collections import ConfigDict
from ml_collections.config_flags import config_flags

from siren_rope_jax.base import extras
from siren_rope_jax.base.config import config_file, made_for, said_in
from siren_rope_jax.base.errors import UserError, excerpt, suggestion
from siren_rope_jax.base.files import NOT_HERE, expanded
from siren_rope_jax.base.stores import is_url

T = TypeVar("T")
_PATHS = (
    *("workdir", "input", "items", "output", "log", "downloads", "ours"),
    *("events", "candidates", "export", "chosen"),
)
_TRACEBACK = "--traceback"
_REQUIRED = " Required."
"""The end of the description of a required flag."""


def new_flags() -> flags.FlagValues:
    """The flags of one script, to be passed to absl's `DEFINE_...` as `flag_values`.

    Every script has its own: a notebook can then run several, and one of them more than once.
    """
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "Show this text.", short_name="h", flag_values=values)
    flags.DEFINE_bool(
        "traceback", False, "Show where in the program an error comes from.", flag_values=values
    )
    return values


def config_flag(values: flags.FlagValues, help_text: str) -> flags.FlagHolder[ConfigDict]:
    """Defines the required flag --config, whose keys can be overridden as --config.key=value."""
    # `_parse` refuses a missing one: absl could not tell it from a config file that returns None.
    return config_flags.DEFINE_config_file("config", help_string=help_text, flag_values=values)


def output_file(given: str | None) -> Path | None:
    """The file of --output, if any; refused at once, not after the work, if it has no folder."""
    path = Path(given) if given else None
    if path and not path.parent.is_dir():
        raise UserError("--output", f"{path.parent} is no folder; make it first")
    return path


def run_flags(
    values: flags.FlagValues,
) -> tuple[flags.FlagHolder[Any], flags.FlagHolder[Any]]:
    """Defines where a trained run is, and where its log is."""
    about = "Directory of the run."
    workdir = flags.DEFINE_string("workdir", None, about, required=True, flag_values=values)
    moved = "Directory of the run's prepared log, if it has moved since the training."
    return workdir, flags.DEFINE_string("log", None, moved, flag_values=values)


def request_flags(values: flags.FlagValues) -> tuple[flags.FlagHolder[Any], ...]:
    """Defines what scripts that ask a trained run share: its place, and files in and out."""
    define = functools.partial(flags.DEFINE_string, flag_values=values)
    workdir, log = run_flags(values)
    events = define("events", None, "Events after the end of the log.")
    items = define("items", None, "A file of one row for each item, if the log was made with one.")
    columns = flags.DEFINE_enum(
        "columns",
        "log",
        ("log", "prepared"),
        "How the files' columns are named: as in the raw log, or as in the prepared one (user, "
        "item, time, and the names of the features and tasks).",
        flag_values=values,
    )
    when = (
        "When the answer is requested: Unix seconds, or an ISO date. Without an offset, a date is "
        "one in the log's time zone or, if it has none, in UTC."
    )
    time = define("time", None, when)
    offset = flags.DEFINE_integer(
        "utc_offset",
        None,
        "Local time minus UTC at the requests, in seconds. By default that of the log's time zone "
        "or of each user's last event.",
        flag_values=values,
    )
    output = define("output", None, "The file to write, CSV or .parquet.", required=True)
    return workdir, log, events, items, columns, time, offset, output


def share_flags(values: flags.FlagValues) -> Callable[[Sequence[T]], Sequence[T] | None]:
    """Defines --index and --of, by which array jobs divide a study's runs among them.

    Returns:
      what takes all runs and returns those of this job; None if the flags are not given.
    """
    about = "Which of the array jobs this is, from 0."
    index = flags.DEFINE_integer("index", None, about, 0, flag_values=values)
    of = flags.DEFINE_integer("of", None, "How many array jobs there are.", 1, flag_values=values)

    def share(runs: Sequence[T]) -> Sequence[T] | None:
        if (index.value is None) != (of.value is None) or (index.value or 0) >= (of.value or 1):
            raise UserError("--index", "goes with --of, and is below it: --index=0 --of=4")
        return None if of.value is None else runs[index.value :: of.value]

    return share


def whole_number(text: str, flag: str) -> int:
    """A number of at least 1 in a list that a flag takes."""
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise UserError(flag, f"{excerpt(text)} is no whole number from 1 to 999,999,999")
    return int(text)


def run(
    main: Callable[[], Any],
    values: flags.FlagValues,
    in_stores: Sequence[str] = (),
    config_for: str = "",
) -> None:
    """Parses the flags and runs `main`.

    Args:
      main: of the script.
      values: its flags.
      in_stores: flags of paths that may also be URLs (`stores.py`).
      config_for: the command whose configs --config takes; others are refused.

    A `UserError` becomes one line on stderr and status 2. So does every other exception; its
    traceback goes to a file that the line names or, with --traceback, to stderr.
    """
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])  # those of libraries keep their defaults
    with reported(values):
        if {"--help", "-h", "--helpfull"} & set(sys.argv):
            _explain(main, values)
            return
        _parse(values, sys.argv, config_for)
        _check_paths(values, in_stores)
        main()


def _explain(main: Callable[[], None], values: flags.FlagValues) -> None:
    """Prints what a script does, and its flags."""
    for name in values:
        if _is_required(values[name]) and not values[name].help.endswith(_REQUIRED):
            values[name].help += _REQUIRED
    described = values.get_help(include_special_flags=False)
    print(f"{(main.__globals__['__doc__'] or '').rstrip()}\n{described}")
    if "config" in values:
        print("\n`siren-rope keys` lists what can be set as --config.key=value.")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wraps a script's imports that need an extra; without it the script ends as in `run`."""
    with reported(), extras.needs(extra):
        yield


@contextmanager
def reported(values: flags.FlagValues | None = None) -> Iterator[None]:
    """Ends the process after an exception in this block, as `run` says."""
    try:
        yield
    except BrokenPipeError:  # of `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if values is not None and values["traceback"].value:
            traceback.print_exc()
        print(f"error: {_as_user_error(error)}", file=sys.stderr)
        sys.exit(2)


def _as_user_error(error: Exception) -> UserError:
    """What a user can make of any exception."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return UserError(error.filename, error.strerror)
    kind, said = type(error).__name__, str(error) or "no more is known"
    return UserError(kind, f"{said.strip()} ({_noted_traceback()})")


def _noted_traceback() -> str:
    """Writes the traceback to a new file; says where it is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="siren-rope-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(traceback.format_exc())
        return f"traceback in {file.name}"
    except OSError:
        return f"{_TRACEBACK} shows more"


def _is_required(flag: flags.Flag[Any]) -> bool:
    """Whether a flag must be given; bounds, which are validators too, let None pass."""
    return flag.name == "config" or any(not v.checker(None) for v in flag.validators)


def _parse(values: flags.FlagValues, argv: Sequence[str], config_for: str = "") -> None:
    _forget(values)
    argv = _with_found_config(argv)
    given = _given(argv).get("config", "")
    if "config" in values and not given:
        raise UserError("--config", "is missing; name a config file, such as configs/table.py")
    sys.modules.pop("config_config", None)  # else the next config file would be read into the last
    logging.set_verbosity(logging.ERROR)  # `_read_config` says it if a file returns None
    try:
        rest = values(argv)
        if "config" in values:
            _read_config(values["config"].value, given, config_for)
    except UserError:
        raise
    except flags.Error as error:
        raise _flag_error(error, values) from error
    except (Exception, SystemExit) as error:
        _refuse_unknown_override(values, argv, config_for)
        file = given.partition(":")[0]
        raise UserError("--config", f"{file}, {said_in(file, error)}") from error
    finally:
        logging.set_verbosity(logging.WARNING)
    if len(rest) > 1:
        stray = rest[1]
        tip = f"; did you mean --{stray.lstrip('-')}?" if "=" in stray else ""
        raise UserError("command line", f"{excerpt(stray)} belongs to no flag{tip}")


def _forget(values: flags.FlagValues) -> None:
    """Forgets what was parsed before: a process may run a command more than once."""
    for name in [name for name in values if name.startswith("config.")]:
        delattr(values, name)  # an override, which the next config file may not have
    for name in values:
        values[name].unparse()
    values.unparse_flags()


def _with_found_config(argv: Sequence[str]) -> list[str]:
    """The command line with the path of a config file that only the package has."""
    found = list(argv)
    for n, argument in enumerate(argv):
        name, equals, value = argument.partition("=")
        at = n if equals else n + 1
        if name in ("--config", "-config") and at < len(argv):
            file, colon, variant = (value if equals else argv[at]).partition(":")
            found[at] = f"{name}=" * bool(equals) + f"{config_file(file)}{colon}{variant}"
    return found


def _flag_error(error: flags.Error, values: flags.FlagValues) -> UserError:
    """A complaint of absl's. An error of a config file arrives inside it, as a traceback."""
    text = str(error)
    if isinstance(error, flags.UnrecognizedFlagError):
        known = [f"--{name}" for name in values if "." not in name and name != "h"]
        name = f"--{error.flagname}"
        return UserError(name, f"there is no such flag{suggestion(name, known)}")
    if missing := re.match(r"flag --(\w+)=None: ", text):
        about = values[missing[1]].help.removesuffix(_REQUIRED).rstrip(".")
        return UserError(f"--{missing[1]}", f"is missing ({about[0].lower()}{about[1:]})")
    if own := re.search(r"UserError: (.*?): (.*)", text):
        return UserError(*own.groups())
    if flag := re.match(r"flag (--[\w.]+)=(.*?): (.*)", text, re.DOTALL):
        name, value, problem = flag.groups()
        return UserError(name, f"{excerpt(value)}: {problem.strip().splitlines()[-1]}")
    return UserError("command line", text)


def _read_config(value: Any, given: str, config_for: str) -> ConfigDict:
    file = given.partition(":")[0]
    if not isinstance(value, ConfigDict):
        why = "returns no ConfigDict" if Path(file).is_file() else "there is no such config file"
        raise UserError("--config", f"{given}: {why} below {Path.cwd()}")
    command = made_for(value)
    if config_for and command not in ("", config_for):
        wanted = f"this command takes those of `siren-rope {config_for}`"
        raise UserError("--config", f"{file} is a config of `siren-rope {command}`; {wanted}")
    return value


def _refuse_unknown_override(
    values: flags.FlagValues, argv: Sequence[str], config_for: str
) -> None:
    """Names the first `--config.a.b` on the command line whose key the config file lacks."""
    given = _given(argv)
    if "config" not in given:
        return
    try:
        parsed = values["config"].parser.parse(given["config"])
        config = _read_config(parsed, given["config"], config_for)
    except UserError:
        raise
    except (Exception, SystemExit):  # the config file itself fails, which is reported elsewhere
        return
    for name in given:
        group, parts = config, name.split(".")
        for depth, key in enumerate(parts[1:] if parts[0] == "config" else (), start=1):
            if not isinstance(group, ConfigDict) or key not in group:
                known = group.keys() if isinstance(group, ConfigDict) else ()
                raise UserError(
                    ".".join(parts[: depth + 1]), f"unknown key{suggestion(key, known)}"
                )
            group = group[key]


def _check_paths(values: flags.FlagValues, in_stores: Sequence[str]) -> None:
    """Expands `~`; refuses no path, and one in a store where the script does not take it."""
    for name in _PATHS:
        value = values[name].value if name in values else None
        if not isinstance(value, str | list):  # a flag that is not given, or is no path
            continue
        paths = value if isinstance(value, list) else [value]
        for path in paths:
            if not path:
                raise UserError(f"--{name}", "is empty; name a path")
            if "\0" in path:
                raise UserError(f"--{name}", f"{excerpt(path)} holds a NUL byte; it is no path")
            if is_url(path) and name not in in_stores:
                raise UserError(f"--{name}", f"{path} {NOT_HERE}")
        own = [path if is_url(path) else str(expanded(path)) for path in paths]
        values[name].value = own if isinstance(value, list) else own[0]


def _given(argv: Sequence[str]) -> dict[str, str]:
    """The flags on the command line, written `--name=value` or `--name value`."""
    given = {}
    for argument, following in itertools.pairwise([*argv[1:], ""]):
        name, equals, value = argument.partition("=")
        given[name.lstrip("-")] = value if equals or following.startswith("-") else following
    return given
