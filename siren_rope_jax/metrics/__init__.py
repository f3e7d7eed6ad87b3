"""Metrics of predictions and rankings, in numpy alone: a metric knows neither models nor logs."""
