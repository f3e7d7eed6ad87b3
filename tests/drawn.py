"""Pictures as figures, whose axes can be asked what they show."""

import pytest
from matplotlib.figure import Figure

from siren_rope_jax.studies import style


def drawn_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """A list that every picture joins instead of being saved; an empty file takes its place."""
    figures: list[Figure] = []

    def save(figure, path):
        figures.append(figure)
        path.touch()

    monkeypatch.setattr(style, "_save", save)
    return figures
