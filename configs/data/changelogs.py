"""The dated changelogs that Debian packages install: which token comes next?

    siren-rope prepare --config=configs/data/changelogs.py --output=runs/data/changelogs

A document has the changes of a source package, the oldest first and each once, however many
packages repeat them. Its tokens have the time of their entry with the zone of its writer; the first
line of an entry still has the time of the one before, since a new time would tell that it begins.
The line that says the time and the writer's name is left out.
Texts are those of the machine's own packages, below /usr/share/doc or in another --input=FOLDER, so
figures can be compared on one machine only; meta.json has the SHA-256 of all texts. Needs
`pip install 'siren-rope-jax[language]'`.
"""

from ml_collections import ConfigDict

from siren_rope_jax.base.config import complete
from siren_rope_jax.prepare.corpus import CorpusConfig


def get_config() -> ConfigDict:
    """Returns the config of `siren-rope prepare`."""
    return complete(
        CorpusConfig, {"corpus": "changelogs", "name": "changelogs", "most_bytes": 1 << 16}
    )
