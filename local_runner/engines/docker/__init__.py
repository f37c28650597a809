"""Containers, through the Engine API."""
