"""Where a promotion goes: an environment, its region, its names."""
