"""The ranker and the retriever, what they are built of, and their losses."""
