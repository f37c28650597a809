"""What a role may do, in a line for people, by the Sids of its statements. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SUMMARIES = {
    "Read": "read from S3",
    "Write": "write to S3",
    "ListBucket": "list buckets",
    "ProcessingJobs": "run processing jobs",
    "TrainingJobs": "run training jobs",
    "TransformJobs": "run batch transforms",
    "HyperParameterTuningJobs": "run tuning jobs",
    "AutoMLJobs": "run AutoML jobs",
    "AutoMLJobV2s": "run AutoML jobs",
    "Models": "create models",
    "ModelPackages": "register models",
    "ModelPackageGroups": "register models",
    "PassRoles": "give its jobs their roles",
    "PullImages": "pull images",
    "LogInToRegistry": "pull images",
    "Functions": "call Lambda functions",
    "Queues": "send to callback queues",
    "Encryption": "use the KMS key",
    "EncryptionByAlias": "use the KMS key",
    "Decryption": "decrypt what it reads",
    "Network": "use the network of the account",
    "Experiments": "keep executions as trials",
    "ExperimentTrials": "keep executions as trials",
    "ExperimentTrialComponents": "keep executions as trials",
    "Logs": "write logs",
    "Metrics": "write metrics",
    "StartPipeline": "start the pipeline",
    "DeadLetters": "send to the dead-letter queue",
}
"""Sid -> what it allows, in the order in which it is shown."""


def permission_summary(sids: Iterable[str]) -> str:
    """What statements of these Sids allow: "read from S3, run processing jobs"; others' by their Sid."""
    # A policy has one statement for each bucket that is listed, with a number.
    names = {re.sub(r"(?<=^ListBucket)\d+$", "", sid) for sid in sids}
    known = [summary for name, summary in _SUMMARIES.items() if name in names]
    return ", ".join(dict.fromkeys([*known, *(f"statement {name}" for name in sorted(names - _SUMMARIES.keys()))]))
