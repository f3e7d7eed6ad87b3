"""Variants x seeds x data sets: planning and training the runs, intervals, one report."""
