"""Lambda, Callback and EMR steps: a Python function of this machine runs in place of the other service.

``settings`` finds the functions, ``process`` runs one, ``outputs`` reads what it returned; each states its I/O rule.
Which function it is stands in local_runner.toml, under ``[local.lambda]`` or ``[local.stand_ins]``.
"""
