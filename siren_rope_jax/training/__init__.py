"""Training: the step, the loop around it, and the runs that come of it."""
