"""The quality of what retrievers find: recall and rank of the gold passages, beside DSPy's on the same data."""
