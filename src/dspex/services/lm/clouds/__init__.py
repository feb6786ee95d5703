"""Providers that know accounts instead of keys: where they are, and how one proves who asks."""
