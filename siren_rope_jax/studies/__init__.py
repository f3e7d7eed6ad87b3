"""Many runs: ablations, their reports and pictures; analyses; other people's models."""
