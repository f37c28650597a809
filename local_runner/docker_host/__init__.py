"""The Docker engine of this machine: where it is, and the way to it."""
