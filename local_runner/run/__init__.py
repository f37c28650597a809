"""What the commands do on this machine: a run from its stages, again at each save, why a step ran."""
