"""Adapters put a signature to a model and read its answer; import them from ``dspex.programs``."""
