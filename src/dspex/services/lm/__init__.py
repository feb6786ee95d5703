"""Language models: wires, retry policy, limits, sockets."""
