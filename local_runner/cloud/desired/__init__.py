"""A project and an environment -> the release that is wanted, and what stands around it."""
