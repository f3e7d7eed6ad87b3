"""The Markdown of one data set in a report: its description, tables and pictures."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from siren_rope_jax.base.text import number
from siren_rope_jax.evaluation.baselines.families import FAMILIES
from siren_rope_jax.evaluation.protocols import PROTOCOLS
from siren_rope_jax.evaluation.slices import SLICES
from siren_rope_jax.metrics.intervals import certain
from siren_rope_jax.rotation.names import grouped, words
from siren_rope_jax.studies.comparison import WITHOUT
from siren_rope_jax.studies.summary import IDEAL
from siren_rope_jax.studies.tables import fewer, interval, plus_minus, table
from siren_rope_jax.training.kinds import KINDS
from siren_rope_jax.training.kinds.kind import Kind, titled

Columns = Sequence[tuple[str, str]]  # parts and metrics

_OF_VALIDATION = "*On the validation split, which chose the parameters that were tested.*"


@dataclass(frozen=True)
class Section:
    """What report.json holds of one data set, as Markdown.

    `seeds` is how many every variant should have; rows of those with fewer say so.
    """

    name: str
    data: Mapping[str, Any]
    baseline: str
    champion: str
    seeds: int

    def lines(self) -> Iterator[str]:
        """All lines, in order."""
        yield from self._description()
        kind, parts = self._kind, list(self.data["counts"])
        if len(parts) > 1:
            yield from self._titled("overview", self._metric_table(parts, kind.compared[:1]))
        for part in parts:
            yield from self._titled("overview", self._metric_table([part], kind.shown), part)
        for key, other in (("difference", self.baseline), ("to_champion", self.champion)):
            if other in self.data["variants"]:
                rows = self._difference_table(key, other)
                yield from self._titled(f"difference to {words(other)}", rows)
        if set(kind.metrics) - set(kind.shown):
            for part in parts:
                rows = self._metric_table([part], list(kind.metrics))
                yield from self._titled("all metrics", rows, part)
        yield from ["### Validation", "", _OF_VALIDATION, "", *self._validation_table()]
        for name in kind.slices:
            what = SLICES[name].title(self.data["data"]["has_utc_offset"])
            for part in parts:
                if rows := self._slice_table(part, name):
                    yield from self._titled(f"by {what}", rows, part)
        yield from self._at_other_lengths()
        # The shortest time, because what else a machine does only lengthens some runs, and by far.
        cost = {
            name: [f"{own['parameters']:,}", f"{min(own['train_seconds']['values']):.0f} s"]
            for name, own in self.data["variants"].items()
        }
        time = "training time, compilation included: shortest run"
        yield from ["### Cost", "", *self._table(["parameters", time], cost)]
        yield from self._gates()
        if f"{self.name}-learning.png" not in self.data["pictures"]:
            yield "No learning curves: no run has two losses, or two validations, to join.\n"
        for picture in self.data["pictures"]:
            yield f"![{picture.removesuffix('.png').replace('-', ', ')}]({picture})\n"

    def of_all_datasets(self) -> Iterator[str]:
        """The differences as means over data sets, of what `together` holds."""
        yield from [
            f"## All {self.data['datasets']} data sets",
            "",
            "Differences as means over the data sets, each of which counts alike. The squares of "
            "half of their intervals add up, as those of independent data sets do.",
            "",
        ]
        for key, other in (("difference", self.baseline), ("to_champion", self.champion)):
            if other in self.data["variants"]:
                yield from [f"### Difference to {words(other)}", ""]
                yield from self._difference_table(key, other)
        for picture in self.data.get("pictures", []):
            yield f"![share of the gap closed]({picture})\n"

    @property
    def _kind(self) -> type[Kind]:
        return KINDS[self.data["kind"]]

    def _titled(self, title: str, rows: Sequence[str], part: str = "") -> list[str]:
        """A table with its title and what was measured."""
        rule = f"{PROTOCOLS[self.data['data']['protocol']].name}; {self.data['rule']}."
        title = titled(part, title) if part else _sentence(title)
        return [f"### {title}", "", f"*{_sentence(rule)}*", "", *rows]

    def _description(self) -> Iterator[str]:
        data, about, history = self.data, self.data["data"], self.data["history"]
        events, protocol = about["events"], PROTOCOLS[about["protocol"]]
        source = f" Source: {about['source']}." if about["source"] else ""
        borders = ""
        if about["protocol"] == "time":
            borders = f"; validation from {about['train_end']}, test from {about['validation_end']}"
        span = f" From {about['start']} to {about['end']} UTC{borders}."
        if about["start"] == about["end"]:  # no event has a time
            span = ""
        yield from [
            f"## {self.name}: {data['split']} split",
            "",
            f"{about['users']:,} users, {about['items']:,} items, {events['all']:,} events: "
            f"{events['train']:,} train, {events['validation']:,} validation, {events['test']:,} "
            f"test.{span}{source}",
            "",
            f"Protocol: {protocol.name}. {protocol.meaning} A model sees at most "
            f"{history['length']} events at once: an event's last {history['least']} or more, "
            "where there are as many.",
            "",
        ]
        if data["targets"]:
            size = events[data["split"]]
            targets = f"{data['events']:,} of the split's {size:,} events"
            yield from [f"Targets: {targets}. {data['targets']}", ""]
        if chosen := data["chosen"]:
            of_variants = (
                f"{words(v)}: {', '.join(f'`{key}` {value}' for key, value in own.items())}"
                for v, own in chosen.items()
            )
            yield from [f"Settings chosen by a sweep: {'; '.join(of_variants)}.", ""]
        explained = FAMILIES[self._kind.baselines].explained(data["baselines"])
        if told := [f"*{name}*: {meaning}" for name, meaning in explained.items()]:
            yield from [f"Baselines: {'; '.join(told)}.", ""]

    def _parts(self, left_out: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Every variant's name, and its parts."""
        for name, own in self.data["variants"].items():
            if name != left_out:
                yield name, own["parts"]

    def _table(
        self,
        labels: Sequence[str],
        rows: Mapping[str, Sequence[str]],
        simple: Mapping[str, Sequence[str]] | None = None,
    ) -> list[str]:
        """A table of variants, in their groups and in words, and of baselines below them."""
        column, lines = self._kind.column, []
        groups = grouped(rows)
        for group, names in groups.items():
            lines += [[f"**{group}**"]] if len(groups) > 1 or simple else []
            for name in names:
                own = self.data["variants"][name]
                facts = [own[column[0]] or "–"] if column else []
                lines.append([_named(name) + fewer(own, self.seeds), *facts, *rows[name]])
        lines += [[f"**{WITHOUT}**"]] if simple else []
        for name, cells in (simple or {}).items():
            lines.append([f"*{name}*", *([""] if column else []), *cells])
        header = ["variant", *([column[1]] if column else []), *labels]
        return table(header, [line + [""] * (len(header) - len(line)) for line in lines])

    def _labels(self, columns: Columns, form: str = "{}", several: bool = True) -> list[str]:
        """The labels of metrics, after the names of their parts where there are several."""
        labels = [(part, form.format(self._kind.metrics[metric].label)) for part, metric in columns]
        return [titled(part, label) if several else label for part, label in labels]

    def _columns(self, parts: Iterable[str], metrics: Sequence[str]) -> Columns:
        """Those of some metrics that each part has: types of tasks have different ones."""
        _, of_some = next(self._parts())
        return [(part, m) for part in parts for m in metrics if m in of_some[part]["metrics"]]

    def _metric_table(self, parts: Sequence[str], metrics: Sequence[str]) -> list[str]:
        """Some metrics of every variant and baseline, and the share of the gap closed."""
        gaps = [p for p in parts if any(of[p]["gap_closed"] for _, of in self._parts())]
        columns = self._columns(parts, metrics)
        several = len(parts) > 1
        rows = {}
        for name, own in self._parts():
            cells = [plus_minus(own[part]["metrics"][metric], 4) for part, metric in columns]
            for closed in (own[part]["gap_closed"] for part in gaps):
                cells.append(plus_minus(closed, 1, " %", 100) + fewer(closed, self.seeds))
            rows[name] = cells
        simple = {
            name: [number(self._kind.part(own, part).get(metric), 4) for part, metric in columns]
            for name, own in self.data["baselines"].items()
            if any(self._kind.part(own, part) for part in parts)
        }
        what = f"gap from {words(self.baseline)} to {IDEAL} closed"
        gap_labels = [titled(part, what) if several else what for part in gaps]
        return self._table([*self._labels(columns, several=several), *gap_labels], rows, simple)

    def _difference_table(self, key: str, other: str) -> list[str]:
        """The differences of all variants to another one; bold: the certain ones, by Holm.

        The family is all differences of the primary metric in this table.
        """
        compared = self._kind.compared
        columns = self._columns(self.data["counts"], compared)
        found = {
            (name, part, metric): {**parts[part][key][metric], "seeds": parts[part][key]["seeds"]}
            for name, parts in self._parts(left_out=other)
            for part, metric in columns
            if parts[part][key]
        }
        family = [place for place in found if place[-1] == self._kind.primary]
        is_certain = certain([found[place]["p"] for place in family])
        bold = {place for place, sure in zip(family, is_certain, strict=True) if sure}
        rows: dict[str, list[str]] = {name: [] for name, _ in self._parts(left_out=other)}
        for name, cells in rows.items():
            for place in ((name, *column) for column in columns):
                of = found.get(place)
                cells.append(interval(of, place in bold) + fewer(of, self.seeds) if of else "")
        return self._table(self._labels(columns, "Δ {}"), rows)

    def _at_other_lengths(self) -> Iterator[str]:
        """What the models are worth in rows of other lengths than that of their training."""
        for length, parts in self.data.get("lengths", {}).items():
            own = {
                variant: {
                    **self.data["variants"][variant],
                    "parts": {
                        part: {**of[variant], "gap_closed": None} for part, of in parts.items()
                    },
                }
                for variant in next(iter(parts.values()))
            }
            there = replace(self, data={**self.data, "variants": own, "baselines": {}})
            trained = self.data["history"]["length"]
            rule = f"Models that were trained in rows of {trained}, tested in rows of {length}."
            yield from [f"### In rows of {length}", "", f"*{rule}*", ""]
            yield from there._metric_table(list(parts), there._kind.shown)
            for key, other in (("difference", self.baseline), ("to_champion", self.champion)):
                if other in own and len(own) > 1:
                    yield from [f"#### Difference to {words(other)}, in rows of {length}", ""]
                    yield from there._difference_table(key, other)

    def _gates(self) -> Iterator[str]:
        """What gates have become, of the variants that have some."""
        found = {v: own.get("gates", {}) for v, own in self.data["variants"].items()}
        if sources := sorted({source for gates in found.values() for source in gates}):
            rows = {
                v: [plus_minus(gates[s], 3) if s in gates else "" for s in sources]
                for v, gates in found.items()
                if gates
            }
            what = "Means of each source's gate over planes, of the parameters that were tested."
            yield from ["### Gates", "", f"*{what}*", "", *self._table(sources, rows)]

    def _validation_table(self) -> list[str]:
        """The compared metrics that the validations have."""
        columns = [
            (part, metric)
            for part, metric in self._columns(self.data["counts"], self._kind.compared)
            if any(p[part]["validation"][metric]["mean"] is not None for _, p in self._parts())
        ]
        rows = {
            name: [plus_minus(parts[part]["validation"][metric], 4) for part, metric in columns]
            for name, parts in self._parts()
        }
        return self._table(self._labels(columns), rows)

    def _slice_table(self, part: str, name: str) -> list[str]:
        """The metrics of the groups that have events; with the first one their share of all.

        Empty where all events are of one group, as those of whole days are of one hour.
        """
        metrics = [m for _, m in self._columns([part], self._kind.slices[name])]
        slices = {variant: parts[part]["slices"][name] for variant, parts in self._parts()}
        some = next(iter(slices.values()))
        counts = {group: v["count"] for group, v in some.items() if v["count"]}
        if not metrics or len(counts) < 2:
            return []
        total = self.data["counts"][part]["count"]
        first, *others = (self._kind.metrics[metric].label for metric in metrics)
        labels = [f"{first}, {g} ({100 * n / total:.1f} %)" for g, n in counts.items()]
        labels += [f"{metric}, {group}" for metric in others for group in counts]
        rows = {
            variant: [number(own[g][m], 4) for m in metrics for g in counts]
            for variant, own in slices.items()
        }
        return self._table(labels, rows)


def _named(variant: str) -> str:
    """A variant in words, and its name for configs."""
    return f"`{variant}`" if words(variant) == variant else f"{words(variant)} (`{variant}`)"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]
