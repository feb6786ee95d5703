"""A real model judges prompts, formats and defaults: ``python -m benchmarks.real``."""
