"""The source code of Python's own standard library: which token comes next?

    siren-rope prepare --config=configs/data/stdlib.py --output=runs/data/stdlib

Every Python has it (some systems keep it in a package of its own; --input=FOLDER takes another
folder). The tests, tables of character sets, a page of documentation and what each build makes for
itself are left out. About 10 MB in 604 modules remain for Python 3.11; meta.json has the version
and the SHA-256 of all texts, and users.parquet the modules. Takes a quarter of a minute, and needs
`pip install 'siren-rope-jax[language]'`.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.prepare.corpus import CorpusConfig


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    machine = ("_sysconfigdata_*", "config-*")  # which each build makes for itself
    exclude = ("test", "tests", "idle_test", "encodings", "pydoc_data", *machine)
    return complete(CorpusConfig, {"corpus": "python", "name": "stdlib", "exclude": exclude})
