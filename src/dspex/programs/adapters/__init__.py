"""How a signature is put to a model and how its answer is read; import adapters from ``dspex.programs``."""
