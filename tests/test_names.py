"""Every named variant is described once, and docs/variants.md has the descriptions as they are."""

import itertools
from collections import Counter

from siren_rope_jax.commands import variants
from siren_rope_jax.rotation.names import CATALOGUE, OWN, grouped, in_order, words
from siren_rope_jax.rotation.variants import LANGUAGE_VARIANTS, RANKING_VARIANTS, RETRIEVAL_VARIANTS
from tests.scripts import ROOT

ENTRIES = [entry for group in CATALOGUE.values() for entry in group.items()]


def test_every_variant_has_an_entry_and_every_entry_is_a_variant() -> None:
    assert Counter(name for name, _ in ENTRIES) == Counter({*RANKING_VARIANTS, *LANGUAGE_VARIANTS})


def test_words_tell_variants_apart_and_fit_beside_a_picture() -> None:
    told = [entry.words for _, entry in ENTRIES]
    assert len({*told}) == len(told) and max(map(len, told)) <= 36
    assert all(entry.meaning.endswith(".") for _, entry in ENTRIES)


def test_names_of_ones_own_come_last_in_their_order_and_stand_for_themselves() -> None:
    names = ["wide", "siren_rope", "deep", "ordinal"]
    assert list(grouped(names).items())[-1] == (OWN, ["wide", "deep"])
    assert in_order(names) == ["ordinal", "siren_rope", "wide", "deep"]
    assert [words(name) for name in in_order(names)] == [
        "ordinal RoPE",
        "SIREN-RoPE",
        "wide",
        "deep",
    ]


def test_the_page_is_that_of_the_catalogue() -> None:
    """If it is not: siren-rope variants > docs/variants.md."""
    page = variants.page()
    assert (ROOT / "docs/variants.md").read_text(encoding="utf-8") == page
    limits = {name: page.split(f"`{name}`")[1].split(":")[0] for name, _ in ENTRIES}
    only = {" (ranking)": RANKING_VARIANTS, " (retrieval)": RETRIEVAL_VARIANTS}
    for (limit, own), (_, others) in itertools.permutations(only.items()):
        assert {n for n, told in limits.items() if told == limit} == {*own} - {*others}
    texts = {n for n, told in limits.items() if told == " (texts)"}
    assert texts == {*LANGUAGE_VARIANTS} - {*RETRIEVAL_VARIANTS}
