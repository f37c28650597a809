"""Execution -> the JSON object that ``--json`` prints and a run keeps, and back. No I/O, no rich."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from local_runner.models import Execution, StepExecution

if TYPE_CHECKING:
    from pydantic import TypeAdapter


def to_record(execution: Execution) -> dict[str, Any]:
    """The execution as JSON-ready data.

    Paths are absolute strings, seconds are rounded to milliseconds. A Condition's outcome is not part of the
    record: which steps ran says it.
    """
    return {
        "id": execution.id,
        "pipeline": execution.pipeline,
        "status": execution.status,
        "engine": execution.engine,
        "hot": execution.hot,
        "failure_reason": execution.failure_reason,
        "parameters": dict(execution.parameters),
        "started": execution.started,
        "ended": execution.ended,
        "seconds": round(execution.seconds, 3),
        "steps": [_step_record(step) for step in execution.steps],
    }


def from_record(record: Mapping[str, Any]) -> Execution:
    """The Execution that ``to_record`` was given, with no Condition outcomes.

    Raises ValueError, naming every place that is wrong, where the data is not such a record.
    """
    # Imported here and not with the module: a run only writes its record, and pydantic is slow to import.
    from pydantic import ValidationError

    try:
        return _adapter().validate_python(record)
    except ValidationError as error:
        lines = [f"  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise ValueError("This is not the record of an execution:\n" + "\n".join(lines)) from None


def _step_record(step: StepExecution) -> dict[str, Any]:
    return {
        "name": step.name,
        "type": step.type,
        "status": step.status,
        "cached": step.cached,
        "hot": step.hot,
        "seconds": round(step.seconds, 3),
        "exit_code": step.exit_code,
        "exit_message": step.exit_message,
        "failure_reason": step.failure_reason,
        "outputs": {name: str(path.absolute()) for name, path in step.outputs.items()},
        "log": None if step.log is None else str(step.log.absolute()),
    }


@cache
def _adapter() -> TypeAdapter[Execution]:
    from pydantic import TypeAdapter

    return TypeAdapter(Execution)
