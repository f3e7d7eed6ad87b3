"""How every script starts: flags and config overrides, and errors as one line and exit status 2."""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from siren_rope_jax.errors import UserError, suggestion
from siren_rope_jax.variants import is_variant

_PATHS = ("workdir", "input", "output", "log", "downloads", "ours")


def run(main: Callable[[], Any]) -> None:
    """Parses the flags and runs `main`; a `UserError` becomes one line on stderr and status 2."""
    app.run(lambda _: _guarded(main), flags_parser=lambda argv: _guarded(_parse, argv))


def _guarded(function: Callable[..., Any], *args: Any) -> Any:
    logging.set_verbosity(logging.WARNING)
    try:
        return function(*args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
        if "config" in flags.FLAGS and not isinstance(flags.FLAGS["config"].value, ConfigDict):
            given = _given(argv).get("config", "")
            raise UserError(f"--config={given}: no such config file below {Path.cwd()}")
        _check_variant()
        _check_paths()
        return rest
    except UserError:
        raise
    except flags.Error as error:
        # A config file's own UserError arrives inside the flag's message, with its traceback.
        own = re.search(r"UserError: (.*)", str(error))
        raise UserError(own[1] if own else str(error)) from error
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(_unknown_override(argv) or f"{type(error).__name__}: {error}") from error


def _unknown_override(argv: Sequence[str]) -> str | None:
    """Names the first `--config.a.b` on the command line whose key the config file lacks."""
    values = _given(argv)
    if "config" not in values:
        return None
    config = flags.FLAGS["config"].parser.parse(values["config"])
    if not isinstance(config, ConfigDict):
        return f"--config={values['config']}: no such config file below {Path.cwd()}"
    for name in values:
        group, parts = config, name.split(".")
        for depth, key in enumerate(parts[1:] if parts[0] == "config" else (), start=1):
            if not isinstance(group, ConfigDict) or key not in group:
                known = group.keys() if isinstance(group, ConfigDict) else ()
                return f"{'.'.join(parts[: depth + 1])}: unknown key{suggestion(key, known)}"
            group = group[key]
    return None


def _check_variant() -> None:
    """Refuses an override that would give one variant's model the name of another."""
    if "config" not in flags.FLAGS:
        return
    name = config_flags.get_override_values(flags.FLAGS["config"]).get("variant", "")
    if is_variant(name):
        raise UserError(
            f"--config.variant={name} would change the run's name only; the model of that variant "
            f"is chosen after the config file: --config=FILE.py:{name}"
        )


def _check_paths() -> None:
    """Refuses what lies in a bucket or on the web, which would become a folder of that name."""
    for name in _PATHS:
        value = flags.FLAGS[name].value if name in flags.FLAGS else None
        for path in value if isinstance(value, list) else [value or ""]:
            if "://" in path:
                raise UserError(
                    f"--{name}={path}: is no path of this machine; mount the bucket (gcsfuse, "
                    "Filestore) or fetch the file, and give the path of that"
                )


def _given(argv: Sequence[str]) -> dict[str, str]:
    """The flags on the command line that are written `--name=value`."""
    return dict(argument.lstrip("-").partition("=")[::2] for argument in argv[1:])
