"""Configs, errors, files, times, and how scripts start: what every other room stands on."""
