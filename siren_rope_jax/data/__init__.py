"""Prepared logs, and the batches that models are fed with."""
