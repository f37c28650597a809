"""A release: as it should be, as it was recorded, and one promotion at a time."""
