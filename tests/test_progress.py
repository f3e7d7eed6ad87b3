"""Preparing says on a terminal what it does, and nothing elsewhere."""

import io
import sys
import time

import pytest

from siren_rope_jax.prepare.progress import PHASES, PhaseBar
from tests.raw_logs import prepared, raw_log


class Terminal(io.StringIO):
    """What a program writes to a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_every_phase_is_named_on_a_terminal_only(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sys, "stderr", kind())
    prepared(tmp_path, raw_log())
    said = sys.stderr.getvalue()
    places = [said.find(f"{n}/{len(PHASES)} {phase}") for n, phase in enumerate(PHASES, start=1)]
    if kind is Terminal:
        assert -1 not in places and places == sorted(places)
    else:
        assert said == ""


def test_the_bar_follows_the_engine_until_events_are_counted(monkeypatch):
    monkeypatch.setattr("siren_rope_jax.prepare.progress._SECONDS", 0.001)
    monkeypatch.setattr(sys, "stderr", Terminal())

    def wait_for(percent: str) -> None:
        deadline = time.monotonic() + 60
        while percent not in sys.stderr.getvalue():
            assert progress._watch.is_alive() and time.monotonic() < deadline

    with PhaseBar(lambda: 40.0) as progress:
        progress.begin("writing histories", events=8)
        wait_for(" 40%")
        progress.count(6)
        wait_for(" 75%")
    assert not progress._watch.is_alive()
