"""SIREN-RoPE: rotary encodings driven by time, for sequential models in JAX."""

__version__ = "0.1.0"
