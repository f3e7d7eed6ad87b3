"""Rotary encodings driven by time, index and category: (E1) to (E5) of docs/method.md."""
