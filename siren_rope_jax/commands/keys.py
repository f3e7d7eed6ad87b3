"""Lists the keys of config files: type, default and meaning of each.

siren-rope keys [ranking|retrieval|language_model|prepare|corpus|synthetic|ablation|sweep|peer]
"""

import sys
from collections.abc import Mapping
from typing import Any

from siren_rope_jax.base import cli
from siren_rope_jax.base.errors import UserError, suggestion
from siren_rope_jax.base.reference import as_markdown, keys_of
from siren_rope_jax.training.kinds import KINDS

_PAGE = """\
# Config keys

`siren-rope keys` prints this page for the installed version, `siren-rope keys ranking` one part of
it in a form for the terminal. Any key that a config file has can be overridden on the command
line, as in `--config.model.width=128`; one that holds several values takes a tuple, as in
`--config.optimizer.lazy_adam="('items',)"`. The files of experiments and raw logs have all keys;
those of ablations and sweeps have those that they name, and the defaults below for the rest. These
defaults are those of the package; a config file sets values of its own, such as `batch_size=8` and
`model.repeat=True` in `configs/next_item.py`, and `config.json` in a work directory has what a run
really used. NAME stands for a name of your choice, and N for the number of one of several.
"""


def _classes() -> Mapping[str, tuple[str, Any]]:
    """Kind of config -> what it is for, and its class."""
    found: dict[str, tuple[str, Any]] = {
        name: (f"An experiment of the kind `{name}` (`train`)", kind.config_class)
        for name, kind in KINDS.items()
    }
    with cli.needs("plots,prepare"):
        from siren_rope_jax.prepare.config import PrepareConfig
        from siren_rope_jax.prepare.corpus import CorpusConfig
        from siren_rope_jax.prepare.synthetic import SyntheticConfig
        from siren_rope_jax.studies.ablation import Ablation
        from siren_rope_jax.studies.peer import PeerConfig
        from siren_rope_jax.studies.sweep import Sweep
    found["prepare"] = ("A raw log (`prepare`)", PrepareConfig)
    found["corpus"] = ("Texts (`prepare`)", CorpusConfig)
    found["synthetic"] = ("A built-in feed (`prepare`)", SyntheticConfig)
    found["ablation"] = ("A comparison (`ablate`)", Ablation)
    found["sweep"] = ("A search (`sweep`)", Sweep)
    found["peer"] = ("A comparison with another library (`compare-peer`)", PeerConfig)
    return found


def page() -> str:
    """All keys, as docs/config.md has them."""
    keys = {name: (title, list(keys_of(cls))) for name, (title, cls) in _classes().items()}
    kinds = [keys.pop(kind) for kind in KINDS]
    _, some = kinds[0]
    shared = [key for key in some if all(key in of_kind for _, of_kind in kinds)]
    tables = [
        ("Every experiment (`train`)", shared),
        *((f"{title}: what differs", [k for k in own if k not in shared]) for title, own in kinds),
        *keys.values(),
    ]
    parts = [f"## {title}\n\n{as_markdown(rows)}\n" for title, rows in tables]
    return "\n".join([_PAGE, *parts])


def run() -> None:
    """Runs the command."""
    with cli.reported():
        name = sys.argv[1] if len(sys.argv) > 1 else ""
        if name in ("--help", "-h"):
            print(__doc__)
            return
        if len(sys.argv) > 2:
            raise UserError("command line", f"{sys.argv[2]} is one kind of config too many")
        if not name:
            print(page(), end="")
            return
        classes = _classes()
        if name not in classes:
            raise UserError(name, f"is no kind of config{suggestion(name, classes)}")
        for key in keys_of(classes[name][1]):
            default = f" = {key.default}" if key.default else ""
            print(f"--{key.name}{default}  ({key.type})\n    {key.meaning}")
