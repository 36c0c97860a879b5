"""Which image of each class to label: embeddings, selection, refining."""
