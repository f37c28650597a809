"""What the cloud commands do, and how they show it."""
