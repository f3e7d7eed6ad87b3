"""Metrics of predictions and rankings, of plain arrays: a metric knows neither models nor logs."""
