"""A project and an environment -> the release as it should be, and what stands around it."""
