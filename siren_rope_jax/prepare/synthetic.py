"""The built-in feed: users whose interests follow the hour of the week, with known best losses.

Interests are Gaussian: user u's interest in topic k at time t is z_uk(t) = w_uk . phi(t) in a time
basis (`time_basis`), w_uk ~ N(0, diag(strengths^2)), plus moods that pass with time or from event
to event, whose correlation falls exponentially (`Mood`). The label of an event for task c is
Bernoulli with logit bias_c + scale_c (z + quality * item quality). Only the labels tell anything
about a user's interests: which items are shown, and when, is independent of them. So the best
possible losses can be computed. Four such floors are written with the log, as probabilities by
event and task:

  oracle      the true probabilities, given the interests; no finite history reveals these.
  ideal       the best prediction from the user's earlier events and their times (`ideal`).
  order_only  the best one from the events' order, without their times, which count through the
              average covariance of the interests between two positions of a history.
  time_blind  the best one without times or order: the effect of time on an interest is noise,
              independent for each event, with the variance that it has over all times.
"""

import dataclasses
import datetime
import itertools
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from siren_rope_jax.base.config import to_dict
from siren_rope_jax.base.errors import UserError, check
from siren_rope_jax.base.times import DAY, HOUR, MAX_TIME, MIN_TIME, WEEK
from siren_rope_jax.data.schema import TEST, TRAIN, Dense, Schema
from siren_rope_jax.metrics.binary import normalized_entropy
from siren_rope_jax.prepare import ideal
from siren_rope_jax.prepare.histories import Histories
from siren_rope_jax.prepare.writer import categorical, encode_ids, seen_values, write_log

DRIFT_WAVES = 3
"""Number of cosines in a drift: half a period over the span, a whole one, one and a half."""


@dataclasses.dataclass(frozen=True)
class SyntheticConfig:
    """A synthetic feed. Strengths are standard deviations in units of interest; zero is allowed.

    Attributes:
      name: the data set's name.
      num_users: number of users.
      events_per_user: how many events each of them has, over the whole span.
      num_topics: number of topics. An item has one; a user's interests in them are independent.
      num_items: number of items, all available at all times.
      start: the first day (UTC), YYYY-MM-DD.
      days: length of the span.
      validation_days: length of the validation split, before the test.
      test_days: length of the test split, at the end.
      session_events: mean number of events per session.
      event_gap: median number of seconds between two events of a session.
      rhythm: how much more sessions begin in the evening than in the morning, 0..1.
      constant: strength of the interests that stay.
      daily: strength of those that follow the time of day.
      weekly: strength of those that follow the time of the week.
      drift: strength of those that drift over the span.
      harmonics: of the day, which share its strength evenly. With one, interests at two hours are
        alike by the cosine of their difference; with four, only within three hours.
      hidden: strength of interests that follow a cycle of which no time feature knows.
      hidden_hours: its period.
      recency: strength of moods that pass with time.
      recency_hours: their mean life.
      order: strength of moods that pass from event to event of a user, whatever the time between.
      order_events: their mean life, in events.
      quality: what an item's quality, a known feature ~ N(0, 1), adds to the interest in it.
      tasks: the names of the labels.
      base_rates: the fraction of positive labels per task.
      scales: the change of the logit per unit of interest, per task.
      seed: for everything random.
    """

    name: str = "synthetic"
    num_users: int = 12_000
    events_per_user: int = 50
    num_topics: int = 4
    num_items: int = 1_000
    start: str = "2024-01-01"
    days: int = 84
    validation_days: int = 7
    test_days: int = 7
    session_events: float = 3.0
    event_gap: float = 60.0
    rhythm: float = 0.5
    constant: float = 0.5
    daily: float = 2.0
    weekly: float = 0.75
    drift: float = 0.5
    harmonics: int = 1
    hidden: float = 0.0
    hidden_hours: float = 36.0
    recency: float = 0.0
    recency_hours: float = 6.0
    order: float = 0.0
    order_events: float = 4.0
    quality: float = 0.5
    tasks: tuple[str, ...] = ("contribution", "like", "long_dwell")
    base_rates: tuple[float, ...] = (0.25, 0.15, 0.45)
    scales: tuple[float, ...] = (1.2, 1.2, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("num_users", "events_per_user", "num_topics", "validation_days", "test_days",
                    "session_events"):  # fmt: skip
            check(getattr(self, key) >= 1, key, "at least 1")
        check(self.num_items >= self.num_topics, "num_items", "num_topics or more")
        right = "more than validation_days + test_days"
        check(self.days > self.validation_days + self.test_days, "days", right)
        check(self.event_gap > 0, "event_gap", "above 0 seconds")
        check(0 <= self.rhythm <= 1, "rhythm", "in 0..1")
        for key in (
            "constant",
            "daily",
            "weekly",
            "drift",
            "hidden",
            "recency",
            "order",
            "quality",
        ):
            check(getattr(self, key) >= 0, key, "0 or more")
        check(1 <= self.harmonics <= 24, "harmonics", "from 1 to 24")
        for key in ("hidden_hours", "recency_hours", "order_events"):
            check(getattr(self, key) > 0, key, "above 0")
        different = 1 <= len(self.tasks) == len(set(self.tasks))
        check(different, "tasks", "one or more different names")
        for key in ("base_rates", "scales"):
            check(len(getattr(self, key)) == len(self.tasks), key, "one number per task")
        check(all(0 < rate < 1 for rate in self.base_rates), "base_rates", "between 0 and 1")
        try:
            begin = self.start_time
        except ValueError:
            begin = MAX_TIME
        in_range = MIN_TIME <= begin < MAX_TIME - (self.days + 1) * DAY
        check(in_range, "start", "a date such as 2024-01-01, with all days in 1902..2099")

    @property
    def start_time(self) -> int:
        """The Unix seconds at which the span begins."""
        day = datetime.datetime.strptime(self.start, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
        return int(day.timestamp())

    @property
    def interest_variance(self) -> float:
        """Variance of an interest over users and times."""
        lasting = self.constant**2 + self.daily**2 + self.weekly**2 + self.drift**2
        return lasting + self.hidden**2 + self.recency**2 + self.order**2

    @property
    def moods(self) -> tuple["Mood", ...]:
        """Those of the interests that pass."""
        recency = Mood(self.recency, self.recency_hours * HOUR, "time")
        order = Mood(self.order, self.order_events, "order")
        return tuple(mood for mood in (recency, order) if mood.strength)

    @property
    def biases(self) -> np.ndarray:
        """float64 [T]: the constants of the logits that lead to the base rates."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(64)
        spread = np.sqrt(self.interest_variance + self.quality**2) * np.asarray(self.scales)
        low, high = np.full(len(self.tasks), -50.0), np.full(len(self.tasks), 50.0)
        for _ in range(60):
            middle = (low + high) / 2
            rates = _sigmoid(middle[:, None] + spread[:, None] * nodes) @ weights / weights.sum()
            below = rates < self.base_rates
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return middle


@dataclasses.dataclass(frozen=True)
class Mood:
    """A part of an interest that passes: its correlation is exp(-distance / life).

    Attributes:
      strength: its standard deviation.
      life: in units of the distance.
      by: `time`: the distance is in seconds; `order`: in events of the user.
    """

    strength: float
    life: float
    by: Literal["time", "order"]

    def places(self, seconds: np.ndarray) -> np.ndarray:
        """Where events are whose times are [..., L]: the distance of two is the difference."""
        if self.by == "time":
            return seconds.astype(np.float64)
        return np.broadcast_to(np.arange(seconds.shape[-1], dtype=np.float64), seconds.shape)

    def covariance(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Between two places."""
        return self.strength**2 * np.exp(-np.abs(a - b) / self.life)

    def draw(self, rng: np.random.Generator, places: np.ndarray, topics: int) -> np.ndarray:
        """That of every user and topic at places [U, L] in order: float64 [U, L, K]."""
        noise = rng.standard_normal((*places.shape, topics))
        kept = np.exp(-np.diff(places, axis=1) / self.life)
        for i in range(1, places.shape[1]):
            alike = kept[:, i - 1, None]
            noise[:, i] = alike * noise[:, i - 1] + np.sqrt(1 - alike**2) * noise[:, i]
        return self.strength * noise


@dataclasses.dataclass(frozen=True)
class Feed:
    """A simulated feed of U users with L events each, K topics, M items and T tasks.

    Attributes:
      time: int64 [U, L], Unix seconds, in order along L.
      item: int32 [U, L], 0..M-1.
      topic: int32 [M], 0..K-1.
      quality: float64 [M].
      labels: bool [U, L, T].
      probabilities: float64 [U, L, T], the true ones.
    """

    time: np.ndarray
    item: np.ndarray
    topic: np.ndarray
    quality: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


def time_basis(seconds: np.ndarray, config: SyntheticConfig) -> np.ndarray:
    """The time basis, times its strengths: what stays of an interest is a sum of these with N(0, 1)
    coefficients.

    Args:
      seconds: int64 [...], since the start of the span.
      config: that of the feed.

    Returns:
      float64 [..., D]: constant; cos, sin of the day and its other harmonics; of the week; the
      drift, of DRIFT_WAVES; of the hidden period, if there is one. The squared norm is the variance
      of an interest but for its moods, with that of the drift averaged over the span.
    """
    columns = [np.full(seconds.shape, config.constant)]
    share = config.daily / np.sqrt(config.harmonics)
    periods = [(DAY / n, share) for n in range(1, config.harmonics + 1)] + [(WEEK, config.weekly)]

    def cycle(period: float, strength: float) -> list[np.ndarray]:
        phase = 2 * np.pi * (seconds % period) / period
        return [strength * np.cos(phase), strength * np.sin(phase)]

    columns += itertools.chain(*(cycle(*of) for of in periods))
    share = config.drift * np.sqrt(2 / DRIFT_WAVES)
    x = seconds / (config.days * DAY)
    columns += [share * np.cos(np.pi * wave * x) for wave in range(1, DRIFT_WAVES + 1)]
    if config.hidden:
        columns += cycle(config.hidden_hours * HOUR, config.hidden)
    return np.stack(columns, axis=-1)


def simulate(config: SyntheticConfig) -> Feed:
    """Draws a feed; the same config always gives the same one."""
    rng = np.random.default_rng(config.seed)
    shape = (config.num_users, config.events_per_user)
    seconds = _event_seconds(rng, config)
    topic = (np.arange(config.num_items) % config.num_topics).astype(np.int32)
    quality = rng.standard_normal(config.num_items)
    item = rng.integers(config.num_items, size=shape, dtype=np.int32)
    phi_UxLxD = time_basis(seconds, config)
    w_UxKxD = rng.standard_normal((config.num_users, config.num_topics, phi_UxLxD.shape[-1]))
    w_UxLxD = w_UxKxD[np.arange(config.num_users)[:, None], topic[item]]
    appeal_UxL = np.einsum("uld,uld->ul", w_UxLxD, phi_UxLxD) + config.quality * quality[item]
    for mood in config.moods:
        of_topics_UxLxK = mood.draw(rng, mood.places(seconds), config.num_topics)
        appeal_UxL += np.take_along_axis(of_topics_UxLxK, topic[item][..., None], 2)[..., 0]
    logits_UxLxT = config.biases + appeal_UxL[..., None] * np.asarray(config.scales)
    probabilities = _sigmoid(logits_UxLxT)
    labels = rng.random(probabilities.shape) < probabilities
    return Feed(config.start_time + seconds, item, topic, quality, labels, probabilities)


def floors(config: SyntheticConfig, feed: Feed) -> dict[str, np.ndarray]:
    """Returns the probabilities of the floors (see the module) by name: float64 [U, L, T] each."""
    users, length = feed.time.shape
    phi_UxLxD = time_basis(feed.time - config.start_time, config)
    group = np.arange(users)[:, None] * config.num_topics + feed.topic[feed.item]
    scale = np.asarray(config.scales)
    offset = config.biases + config.quality * feed.quality[feed.item][..., None] * scale
    features = phi_UxLxD.reshape(users * length, -1)
    by_position = phi_UxLxD.transpose(1, 0, 2).reshape(length, -1)
    average = by_position @ by_position.T / users
    position = np.tile(np.arange(length), users)
    kernels = [ideal.basis_kernel(features)]
    for mood in config.moods:
        places_UxL = mood.places(feed.time - config.start_time)
        kernels.append(ideal.distance_kernel(places_UxL.reshape(-1), mood.covariance))
        for i in range(length):  # of all positions at once it would not fit into memory
            average[i] += mood.covariance(places_UxL, places_UxL[:, i, None]).mean(axis=0)
    noise = config.interest_variance - config.constant**2
    observed = ideal.predict(
        group.reshape(-1),
        offset.reshape(users * length, -1),
        scale,
        feed.labels.reshape(users * length, -1),
        {
            "ideal": ideal.summed(kernels),
            "order_only": ideal.position_kernel(average, position),
            "time_blind": ideal.constant_kernel(config.constant**2, noise),
        },
    )
    return {"oracle": feed.probabilities} | {
        name: p.reshape(feed.labels.shape) for name, p in observed.items()
    }


def generate(config: SyntheticConfig, output: str | Path) -> dict[str, Any]:
    """Simulates a feed and writes it as a prepared log with its floors.

    Returns:
      the report, which is also in meta.json; "floors" has their NE on test by task.

    Raises:
      UserError: `output` exists and is not empty, or a split lacks events or a class of a task.
    """
    began = time.monotonic()
    feed = simulate(config)
    users, length = feed.time.shape
    validation_end = config.start_time + (config.days - config.test_days) * DAY
    train_end = validation_end - config.validation_days * DAY
    split = np.digitize(feed.time, [train_end, validation_end])
    columns = {
        "user_index": np.repeat(np.arange(users), length),
        "row": np.arange(users * length),
        "time": feed.time,
        "utc_offset": np.zeros_like(feed.time),
        "split": split,
        "dense/quality": feed.quality[feed.item].astype(np.float32),
    }
    columns |= {f"task/{task}": feed.labels[..., t] for t, task in enumerate(config.tasks)}
    vocabularies = {}
    for name, values in (("item", feed.item), ("topic", feed.topic[feed.item])):
        columns[f"categorical/{name}"], vocabularies[name] = encode_ids(values, split == TRAIN)
    schema = Schema(
        name=config.name,
        categorical=tuple(categorical(name, table, 1) for name, table in vocabularies.items()),
        dense=(Dense("quality"),),
        context=(),
        actions=(),
        tasks=config.tasks,
        has_utc_offset=False,
        train_start=int(feed.time.min()),
        train_end=train_end,
        validation_end=validation_end,
        end=int(feed.time.max()),
        source="the built-in synthetic feed",
    )
    batch = pa.record_batch({name: values.reshape(-1) for name, values in columns.items()})
    stream = Histories([batch], schema, seen_values(vocabularies["item"]))
    histories = [rows for block, counts in stream for rows in np.split(block, counts.cumsum()[:-1])]
    try:
        report = {"rows_read": feed.time.size, "users": users, "warnings": [], **stream.report()}
    except UserError as error:
        raise UserError("config.num_users", f"is too small for this feed: {error}") from error
    probabilities = floors(config, feed)
    test = split == TEST
    baselines = {"event": np.arange(feed.time.size)}
    report["floors"] = {task: {} for task in config.tasks}
    for (name, p), (t, task) in itertools.product(probabilities.items(), enumerate(config.tasks)):
        ne = normalized_entropy(feed.labels[test, t], p[test, t])
        report["floors"][task][name] = float(ne)
        baselines[f"{name}/{task}"] = p[..., t].reshape(-1).astype(np.float32)
    report["config"] = to_dict(config)
    report["seconds"] = round(time.monotonic() - began, 2)
    raw_users = np.arange(users)
    return write_log(
        output, stream.fitted(), histories, raw_users, vocabularies, report, pa.table(baselines)
    )


def _event_seconds(rng: np.random.Generator, config: SyntheticConfig) -> np.ndarray:
    """Event times in sessions: int64 [U, L], seconds since the start of the span, in order."""
    shape = (config.num_users, config.events_per_user)
    # The daily rhythm: density 1 + rhythm cos(hour - 20 h), drawn by inverting its integral.
    grid = np.linspace(0, 1, 1441)
    peak = 20 / 24
    wave = np.sin(2 * np.pi * (grid - peak)) + np.sin(2 * np.pi * peak)
    clock = np.interp(rng.random(shape), grid + config.rhythm / (2 * np.pi) * wave, grid)
    begin = (rng.integers(config.days, size=shape) + clock) * DAY
    new = rng.random(shape) < 1 / config.session_events
    new[:, 0] = True
    session = np.cumsum(new, axis=1) - 1
    begin[np.arange(shape[1]) > session[:, -1:]] = np.inf  # unused sessions
    begin.sort(axis=1)
    gap = np.maximum(config.event_gap * np.exp(rng.standard_normal(shape)), 1.0)
    gap[new] = 0
    since_first = np.cumsum(gap, axis=1)
    since_begin = since_first - np.take_along_axis(
        since_first, np.maximum.accumulate(np.where(new, np.arange(shape[1]), 0), axis=1), axis=1
    )
    seconds = np.take_along_axis(begin, session, axis=1) + since_begin
    return np.sort(seconds, axis=1).astype(np.int64)  # sessions may overlap


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
