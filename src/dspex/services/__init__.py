"""The rooms that hold state and touch network or disk."""
