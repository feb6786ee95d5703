"""The App, its configuration, and the command line."""
