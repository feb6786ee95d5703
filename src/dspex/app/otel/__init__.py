"""OpenTelemetry for an App: spans and metrics, made of its events with the API package alone."""
