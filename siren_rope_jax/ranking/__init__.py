"""The ranker: the engagement labels of every event."""
