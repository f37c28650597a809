"""Jobs in hot workers: the docker engine, wrapped. ``program`` is what runs in a worker's container."""
