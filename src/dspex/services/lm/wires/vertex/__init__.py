"""The models of Vertex AI: Google's own and Anthropic's, with what differs there from their makers' protocols."""
