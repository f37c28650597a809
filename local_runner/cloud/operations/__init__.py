"""What the cloud commands do, and the words they do it with."""
