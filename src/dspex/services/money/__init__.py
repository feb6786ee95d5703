"""Money: what models cost, what has been spent, and what may be."""
