"""Files that become passages: found, read within bounds, and split."""
