"""The definition JSON: what can be written in it, and what its expressions evaluate to. No I/O.

``parser`` reads a document and collects every problem of it; ``expressions`` evaluates what it holds.
"""
