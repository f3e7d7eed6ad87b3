"""From a raw event log to a prepared one; also the built-in feed."""
