"""The processing image: ``build`` makes it, of a ``base`` and ``wheels``; ``source`` is the project's files for it."""
