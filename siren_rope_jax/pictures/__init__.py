"""Pictures of runs and of comparisons."""
