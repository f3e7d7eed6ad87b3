"""What the named variants are, in words: for tables, for pictures, and for choosing one.

Every name of `variants.py` has an entry here, in one of a few groups. Names of the user's own, such
as those of an ablation's variants, stand for themselves in a last group.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Entry(NamedTuple):
    """What a variant is.

    Attributes:
      words: its name in tables and pictures.
      meaning: one sentence on what it does.
    """

    words: str
    meaning: str


CATALOGUE: Mapping[str, Mapping[str, Entry]] = {
    "Without time": {
        "none": Entry(
            "no rotation", "Nothing is rotated: attention knows only which events are earlier."
        ),
        "ordinal": Entry(
            "ordinal RoPE",
            "RoPE by the index of an event alone: what all others are compared with.",
        ),
        "learned_positions": Entry(
            "learned positions",
            "One vector per position is added to the embedding, as in SASRec; nothing is rotated.",
        ),
        "semantic": Entry(
            "ordinal RoPE and category",
            "Ordinal RoPE, and learned angles of a category such as the item or its topic.",
        ),
        "ordinal_interleaved": Entry(
            "ordinal RoPE, interleaved",
            "Ordinal RoPE where items and actions are tokens of their own, one after the other.",
        ),
    },
    "Rivals: rotation by time": {
        "time_ladder": Entry(
            "time ladder alone",
            "RoPE's ladder of frequencies turns by the time in days instead of the index.",
        ),
        "to_rope": Entry(
            "TO-RoPE, summed",
            "The angles of time (in days) and index are added in all planes of all heads.",
        ),
        "to_rope_hours": Entry(
            "TO-RoPE, summed, hours", "The summed TO-RoPE with the time in hours instead of days."
        ),
        "to_rope_demo": Entry(
            "TO-RoPE, summed, 100 days", "The summed TO-RoPE with the time in units of 100 days."
        ),
        "to_rope_split_dim": Entry(
            "TO-RoPE, split by dimension",
            "Half of the planes of every head turn by the time in days, half by the index.",
        ),
        "to_rope_split_head": Entry(
            "TO-RoPE, split by head",
            "Half of the heads turn by the time in days, half by the index.",
        ),
        "to_rope_split_dim_hstu_bias": Entry(
            "TO-RoPE by dimension, HSTU's bias",
            "TO-RoPE, split by dimension, and HSTU's bias for elapsed time.",
        ),
        "rote": Entry(
            "RoTE, with order",
            "Queries and keys are sums of three copies, turned by ladders of the time in years, "
            "months and days (RoTE), and each by the index as well.",
        ),
        "linear": Entry(
            "learned frequencies",
            "Every plane turns by the time with a frequency that is learned, and by the index.",
        ),
        "time2vec": Entry(
            "Time2Vec",
            "Time2Vec takes the place of SIREN-RoPE's network: sines of learned frequencies.",
        ),
    },
    "Rivals: time as a bias": {
        "hstu_bias": Entry(
            "HSTU's time bias",
            "Ordinal RoPE, and a learned bias on the logits for every bucket of elapsed time.",
        ),
        "hstu_bias_only": Entry(
            "HSTU's biases, no rotation",
            "Learned biases for elapsed time and for distance in the order take RoPE's place.",
        ),
        "fuxi_bias": Entry(
            "FuXi's time bias",
            "Ordinal RoPE, and a bias on the logits that falls with elapsed time by a power law.",
        ),
        "fuxi_gamma_bias": Entry(
            "FuXi-gamma's time bias",
            "Ordinal RoPE, and a bias that falls with elapsed time by a stretched exponential.",
        ),
        "fuxi_linear_bias": Entry(
            "FuXi-Linear's retention",
            "Ordinal RoPE, and a bias of damped waves of elapsed time, from 17 minutes to a year.",
        ),
        "relation_bias": Entry(
            "TiSASRec's relations",
            "Ordinal RoPE, and the product of a query with a learned vector for elapsed time.",
        ),
    },
    "Time in the embedding": {
        "time_in_embedding": Entry(
            "time in the embedding",
            "Ordinal RoPE; phases of day and week and the long-range time join the embedding.",
        ),
        "time_in_embedding_cyclic": Entry(
            "phases in the embedding",
            "Ordinal RoPE; the phases of day and week alone join the embedding.",
        ),
        "time_in_embedding_network": Entry(
            "network into the embedding",
            "Ordinal RoPE; SIREN-RoPE's network maps the time into the embedding, not to angles.",
        ),
        "time_in_embedding_network_hstu_bias": Entry(
            "network into embedding, HSTU's bias",
            "HSTU's time bias; SIREN-RoPE's network maps the time into the embedding.",
        ),
        "trend_hstu_bias": Entry(
            "trend in the embedding, HSTU's bias",
            "HSTU's time bias; a network of the long-range time alone joins the embedding.",
        ),
        "time_in_embedding_event": Entry(
            "time in the embedding, of events",
            "Time in the embedding, but a query knows the time of its last event only.",
        ),
    },
    "SIREN-RoPE and its parts": {
        "siren_rope": Entry(
            "SIREN-RoPE",
            "A sine branch plus an MLP map the time to angles, which are added to the index's.",
        ),
        "siren_only": Entry("sine branch alone", "SIREN-RoPE without the MLP."),
        "dnn_only": Entry("MLP alone", "SIREN-RoPE without the sine branch."),
        "siren_rope_no_order": Entry(
            "SIREN-RoPE without order", "The network's angles alone; the index turns nothing."
        ),
        "siren_rope_cyclic": Entry(
            "SIREN-RoPE, day and week alone", "The network sees the phases of day and week only."
        ),
        "siren_rope_long_range": Entry(
            "SIREN-RoPE, long range alone", "The network sees the long-range time only."
        ),
        "dnn_long_range": Entry(
            "MLP, long range alone", "The MLP alone, which sees the long-range time only."
        ),
        "siren_rope_raw": Entry(
            "SIREN-RoPE, raw phases",
            "The network sees phases of day and week as fractions, not as cosines and sines.",
        ),
        "siren_rope_category": Entry(
            "SIREN-RoPE and category", "The network sees an embedding of a category as well."
        ),
        "siren_rope_category_gate": Entry(
            "SIREN-RoPE, gate by category",
            "A category scales the network's gate, by a factor for every value and plane.",
        ),
        "siren_rope_semantic": Entry(
            "SIREN-RoPE beside category",
            "Learned angles of a category are added to those of the network and of the index.",
        ),
        "siren_rope_split_dim": Entry(
            "SIREN-RoPE, split by dimension",
            "Half of the planes turn by the network's angles, half by the index.",
        ),
        "siren_rope_event": Entry(
            "SIREN-RoPE, times of events",
            "A query is rotated by the time of its last event, not by that of the request.",
        ),
        "siren_rope_interleaved": Entry(
            "SIREN-RoPE, interleaved",
            "SIREN-RoPE where items and actions are tokens of their own, one after the other.",
        ),
    },
    "Ladders of known periods": {
        "to_rope_day_week": Entry(
            "ladders of day and week",
            "A quarter of the planes turns once a day, one once a week, half by the index.",
        ),
        "siren_rope_day_week": Entry(
            "SIREN-RoPE on ladders of day, week",
            "The network's angles, small at first, are added to those of the day and the week.",
        ),
    },
    "Clock, lag and order on planes of their own": {
        "clock_and_lag": Entry(
            "clock and lag",
            "A quarter of the planes turns once or twice a day, an eighth once or twice a week, "
            "three eighths with periods from ten minutes to ninety days, a quarter by the index.",
        ),
        "clock_and_lag_hstu_bias": Entry(
            "clock and lag, HSTU's bias", "Clock and lag, and HSTU's bias for elapsed time."
        ),
        "clock_and_lag_split_head": Entry(
            "clock and lag, split by head",
            "Half of the heads turn by the clock of day and week, half by the lag and the index.",
        ),
        "clock_lag_trend": Entry(
            "clock, lag, trend",
            "Clock and lag, HSTU's bias, and a network of the long-range time into the embedding: "
            "what relates events turns, and what all of them share at a time is told.",
        ),
        "learned_clock": Entry(
            "learned clock, lag",
            "SIREN-RoPE's network of the phases of day and week turns half of the planes; a "
            "quarter has periods from ten minutes to ninety days, a quarter turns by the index.",
        ),
        "learned_clock_hstu_bias": Entry(
            "learned clock, lag, HSTU's bias",
            "Learned clock and lag, and HSTU's bias for elapsed time.",
        ),
        "learned_clock_in_space": Entry(
            "learned clock, lag, in space",
            "The same angles turn blocks of three components, by the clock about one axis and by "
            "lag or order about another: rotations that do not commute.",
        ),
    },
    "Layout of a text": {
        "ordinal_long_base": Entry(
            "ordinal RoPE, base 500,000", "RoPE by the index of a token, with slower planes."
        ),
        "line_ladder": Entry(
            "line, index", "Half of the planes turn by the line of a token, half by its index."
        ),
        "column_ladder": Entry(
            "column, index", "Half of the planes turn by the column of a token, half by its index."
        ),
        "indent_ladder": Entry(
            "indentation, index",
            "Half of the planes turn by the indentation of a token's line, half by its index.",
        ),
        "depth_ladder": Entry(
            "brackets, index",
            "Half of the planes turn by the number of open brackets, half by a token's index.",
        ),
        "since_newline_ladder": Entry(
            "tokens of the line, index",
            "Half of the planes turn by the tokens since the line began, half by a token's index.",
        ),
        "layout_ladders": Entry(
            "ladders of the layout",
            "Half of the planes turn by the index, the others by line, column, indentation, open "
            "brackets and tokens since the line began, each by one on planes of its own.",
        ),
        "layout_network": Entry(
            "network of the layout",
            "SIREN-RoPE's network of the layout's signals gives angles, added to the index's.",
        ),
        "layout_network_split": Entry(
            "network of the layout, split",
            "Half of the planes turn by the network's angles, half by the index.",
        ),
        "layout_categories": Entry(
            "learned angles of the layout",
            "Every line, column, indentation and so on has learned angles, added to the index's.",
        ),
        "layout_in_embedding": Entry(
            "layout in the embedding",
            "Ordinal RoPE; embeddings of the layout's signals join that of the token.",
        ),
    },
    "Combinations": {
        "siren_rope_hstu_bias": Entry(
            "SIREN-RoPE, HSTU's bias", "SIREN-RoPE, and HSTU's bias for elapsed time."
        ),
        "siren_rope_split_dim_hstu_bias": Entry(
            "SIREN-RoPE, split, HSTU's bias",
            "SIREN-RoPE split by dimension, and HSTU's bias for elapsed time.",
        ),
        "siren_rope_time_in_embedding": Entry(
            "SIREN-RoPE, time in the embedding",
            "SIREN-RoPE; phases of day and week and the long-range time join the embedding.",
        ),
        "siren_rope_time_in_embedding_cyclic": Entry(
            "SIREN-RoPE, phases in the embedding",
            "SIREN-RoPE; the phases of day and week alone join the embedding.",
        ),
    },
}
"""Group -> name -> what it is; tables and pictures keep this order."""

OWN = "Others"
"""The group of all other names."""

_ENTRIES = {name: entry for group in CATALOGUE.values() for name, entry in group.items()}


def words(name: str) -> str:
    """A variant's name in words; a name that is not in the catalogue stands for itself."""
    return _ENTRIES[name].words if name in _ENTRIES else name


def grouped(names: Iterable[str]) -> dict[str, list[str]]:
    """Group -> those of the names that are in it, both in order; other names keep theirs."""
    names = list(names)
    groups = {group: [n for n in known if n in names] for group, known in CATALOGUE.items()}
    groups[OWN] = [name for name in names if name not in _ENTRIES]
    return {group: some for group, some in groups.items() if some}


def in_order(names: Iterable[str]) -> list[str]:
    """The names in the order of `grouped`."""
    return [name for some in grouped(names).values() for name in some]
