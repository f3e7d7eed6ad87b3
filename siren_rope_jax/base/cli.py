"""How every script starts: flags and config overrides, and errors as one line and exit status 2."""

import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict

from siren_rope_jax.base import extras
from siren_rope_jax.base.errors import UserError, suggestion

_PATHS = ("workdir", "input", "output", "log", "downloads", "ours")


def run(main: Callable[[], Any]) -> None:
    """Parses the flags and runs `main`; a `UserError` becomes one line on stderr and status 2."""
    app.run(lambda _: _guarded(main), flags_parser=lambda argv: _guarded(_parse, argv))


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Wraps a script's imports that need an extra; without it the script ends as in `run`."""
    with _reported(), extras.needs(extra):
        yield


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _guarded(function: Callable[..., Any], *args: Any) -> Any:
    logging.set_verbosity(logging.WARNING)
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    with _reported():
        return function(*args)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS:
            _read_config(flags.FLAGS["config"].value, argv)
        _check_paths()
        return rest
    except flags.Error as error:
        raise _as_user_error(error) from error
    except (AttributeError, KeyError, TypeError, OSError) as error:
        _refuse_unknown_override(argv)
        raise UserError("--config", f"{type(error).__name__}: {error}") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError("--config", str(error)) from error


def _as_user_error(error: flags.Error) -> UserError:
    """A complaint of absl's. A `UserError` of a config file arrives inside it, as a traceback."""
    text = str(error)
    if own := re.search(r"UserError: (.*?): (.*)", text):
        return UserError(*own.groups())
    if flag := re.match(r"flag (--[\w.]+)=(.*?): (.*)", text, re.DOTALL):
        name, value, problem = flag.groups()
        return UserError(name, problem if value == "None" else f"{value}: {problem}")
    unknown = re.search(r"flag '(.*?)'", text)
    return UserError(f"--{unknown[1]}" if unknown else "command line", text)


def _read_config(value: Any, argv: Sequence[str]) -> ConfigDict:
    if not isinstance(value, ConfigDict):
        given = _given(argv).get("config", "")
        raise UserError("--config", f"{given}: there is no such config file below {Path.cwd()}")
    return value


def _refuse_unknown_override(argv: Sequence[str]) -> None:
    """Names the first `--config.a.b` on the command line whose key the config file lacks."""
    values = _given(argv)
    if "config" not in values:
        return
    config = _read_config(flags.FLAGS["config"].parser.parse(values["config"]), argv)
    for name in values:
        group, parts = config, name.split(".")
        for depth, key in enumerate(parts[1:] if parts[0] == "config" else (), start=1):
            if not isinstance(group, ConfigDict) or key not in group:
                known = group.keys() if isinstance(group, ConfigDict) else ()
                raise UserError(
                    ".".join(parts[: depth + 1]), f"unknown key{suggestion(key, known)}"
                )
            group = group[key]


def _check_paths() -> None:
    """Refuses a path in a bucket or on the web, which would become a local folder of that name."""
    for name in _PATHS:
        value = flags.FLAGS[name].value if name in flags.FLAGS else None
        for path in value if isinstance(value, list) else [value or ""]:
            if "://" in path:
                raise UserError(
                    f"--{name}",
                    f"{path} is not a path on this machine; mount the bucket (gcsfuse, Filestore) "
                    "or fetch the file, and give that path",
                )


def _given(argv: Sequence[str]) -> dict[str, str]:
    """The flags on the command line, written `--name=value` or `--name value`."""
    given = {}
    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=True):
        name, equals, value = argument.partition("=")
        given[name.lstrip("-")] = value if equals or following.startswith("-") else following
    return given
