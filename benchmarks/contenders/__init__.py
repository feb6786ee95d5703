"""The contenders. Each function sets a contender up and returns what performs a number of operations."""
