"""Lists the named variants of encodings, in groups, and says what each of them is.

siren-rope variants
"""

import textwrap

from siren_rope_jax.base import cli
from siren_rope_jax.rotation.names import CATALOGUE
from siren_rope_jax.rotation.variants import RANKING_VARIANTS, RETRIEVAL_VARIANTS

_FLAGS = cli.new_flags()

_PAGE = """\
# Variants

`siren-rope variants` prints this page for the installed version. A variant is chosen after the name
of a config file, as in `--config=configs/table.py:siren_rope`, or by the `argument` of a variant of
an ablation. `siren_rope_jax/rotation/variants.py` has their definitions. Reports and pictures show
them in this order and by these names. Language models have those of retrieval as well as their own
(texts). Whatever the variant, the head of a ranker knows the hour of the request (docs/method.md,
"Notes").
"""


def page() -> str:
    """All variants, as docs/variants.md has them."""
    lines = [_PAGE]
    for group, entries in CATALOGUE.items():
        lines.append(f"## {group}\n")
        for name, (words, meaning) in entries.items():
            text = f"- `{name}`{_limit(name)}: **{words}**. {meaning}"
            lines += textwrap.wrap(text, 100, subsequent_indent="  ", break_on_hyphens=False)
        lines.append("")
    return "\n".join(lines)


def _limit(name: str) -> str:
    """For which models alone a variant is there."""
    if name in RANKING_VARIANTS:
        return "" if name in RETRIEVAL_VARIANTS else " (ranking)"
    return " (retrieval)" if name in RETRIEVAL_VARIANTS else " (texts)"


def main() -> None:
    """Prints them."""
    print(page(), end="")


def run() -> None:
    """Runs the command."""
    cli.run(main, _FLAGS)
