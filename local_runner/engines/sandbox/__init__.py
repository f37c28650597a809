"""Namespaces of this machine: no Docker, no image."""
