"""Simple predictors that every trained model is compared with."""
