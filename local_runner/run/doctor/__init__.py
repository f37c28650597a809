"""What this machine has, what a run will use, and the command that mends each gap.

Looks only: nothing is built, installed, pulled or written, and AWS is asked nothing. ``diagnosis`` asks ``machine`` and
``docker`` and draws the conclusion; ``check`` is what they answer with.
"""
