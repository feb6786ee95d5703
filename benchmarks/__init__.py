"""Benchmarks: what dspex costs, each time beside a floor or a peer that runs in alternation with it."""
