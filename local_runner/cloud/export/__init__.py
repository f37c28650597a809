"""A release as documents of other tools."""
