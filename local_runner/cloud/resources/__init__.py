"""The resources of a release, each with its plan: what is there, what has to change."""
