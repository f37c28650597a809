"""The requests of the SageMaker API that create jobs: their fields, rules and limits. No I/O."""
