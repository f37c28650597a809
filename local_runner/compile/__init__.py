"""pipeline.py -> definition JSON, offline and cached. ``compiler`` is the stage; ``sdk`` imports the SDK.

``program`` compiles in a process of its own; nothing here is imported by a run whose pipeline.py has not changed,
except the look-up.
"""
