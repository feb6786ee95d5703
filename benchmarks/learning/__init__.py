"""Optimizers on a real model, beside those of DSPy: ``python -m benchmarks.learning``."""
