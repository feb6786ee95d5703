"""What optimizers teach a real model, beside DSPy's own: ``python -m benchmarks.learning``."""
