"""The demo with a real model on this machine: fetched once, served beside the App, asked and taught."""
