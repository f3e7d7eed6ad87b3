"""The version of the package."""

__version__ = "0.11.0"
"""Raised by every change that moves a number or the content of a file. What another version trained
can be used, but its training is not continued."""
