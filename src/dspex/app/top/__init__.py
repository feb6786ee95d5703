"""The App in a terminal: the snapshots that the page shows, as text."""
