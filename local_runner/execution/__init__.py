"""Plan -> Execution: the steps of a plan, each by its kind, and what a job is given and leaves."""
