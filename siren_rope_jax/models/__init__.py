"""The ranker and the retriever, what they are built of, their losses, and simple baselines."""
