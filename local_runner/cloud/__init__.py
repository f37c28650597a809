"""Promotion: what ran here goes to an AWS account and is operated there. Calls to AWS are made here only.

    Target + PipelineDefinition -> DesiredRelease -> plan (reads only) -> [Change] -> apply (the only writer)

Every kind of resource of a release has a ``plan(aws) -> list[Change]`` of its own: it reads what is there and says what
would be done. An empty list is "nothing to change", so that planning again is how a promotion is verified and resumed.
"""
