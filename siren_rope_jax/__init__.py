"""SIREN-RoPE: rotary encodings driven by time, for sequential models in JAX."""

__version__ = "0.2.0"
"""Raised by every change that moves a number: a run of one version is not continued by another."""
