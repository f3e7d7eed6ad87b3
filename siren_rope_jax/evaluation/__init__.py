"""What a trained model is worth on a split: metrics, baselines, slices, and the files of a run."""
