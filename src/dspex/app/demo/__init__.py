"""The demo: what it is made of, and how it runs."""
