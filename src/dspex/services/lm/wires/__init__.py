"""One package per provider protocol: pure translation between our records and its bytes."""
