"""The retriever: the item of the next event, among all items."""
