"""Predictors without parameters, which stand beside every trained model."""
