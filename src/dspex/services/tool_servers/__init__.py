"""Servers of tools: programs that speak the Model Context Protocol."""
