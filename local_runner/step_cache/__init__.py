"""The step cache: a Processing step is not run again when nothing that it depends on has changed (docs/CACHE.md).

Everything here reads and writes ``<state>/steps`` and local S3 only; no engine is asked unless an image needs it.
"""
