"""SIREN-RoPE: rotary encodings driven by time, for sequential models in JAX."""

__version__ = "0.3.0"
"""Raised by every change that moves a number or a file's content: what one version trained, another
neither continues nor opens."""
