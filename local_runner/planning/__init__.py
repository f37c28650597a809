"""PipelineDefinition + values -> Plan. Finds every problem before anything runs; starts nothing.

``planner`` is the stage; ``request`` and ``limits`` look at one CreateProcessingJob request, ``scope`` is what
expressions can see when an execution starts.
"""
