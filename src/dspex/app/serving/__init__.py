"""A program as a service over HTTP."""
