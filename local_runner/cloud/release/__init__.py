"""A release: what is wanted, what was recorded, and one promotion at a time."""
