"""What counts as "there is no such thing": the table of account/not_found.py, and that nobody else decides it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from hypothesis import given
from hypothesis import strategies as st

import local_runner
from local_runner.cloud.account.not_found import CODES, is_not_found

PACKAGE = Path(str(local_runner.__file__)).parent
ABSENCE = re.compile(r"404|NoSuch\w+|(?!Local)\w*(NotFound|DoesNotExist)\w*|ValidationException")
REFUSALS = (
    *("AccessDenied", "AccessDeniedException", "ConflictException", "DeleteConflict", "InvalidParameter", "403", "400"),
    *("ManagedRuleException", "ThrottlingException", "UnmodifiableEntity", "ValidationError", "ValidationException"),
)


def operation(call: str) -> OperationModel:
    service, _, name = call.partition(".")
    model = ServiceModel(Loader().load_service_model(service, "service-2"), service)
    names: Any = model.operation_names
    return next(model.operation_model(each) for each in names if xform_name(each) == name)


@pytest.mark.parametrize("call", CODES)
def test_the_table_has_what_the_service_documents(call: str) -> None:
    error_shapes: Any = operation(call).error_shapes
    documented = {
        str(shape.metadata.get("error", {}).get("code", shape.name))
        for shape in error_shapes
        if ABSENCE.fullmatch(shape.name) and shape.name != "ValidationException"
    }
    assert documented <= CODES[call]


@given(call=st.sampled_from(sorted(CODES)), code=st.sampled_from(REFUSALS) | st.text(), message=st.text())
def test_a_refused_call_is_no_absence(call: str, code: str, message: str) -> None:
    by_text = ".describe_pipeline" in call and code == "ValidationException"
    assert is_not_found(call, code, message) == (code in CODES[call]) or by_text


@pytest.mark.parametrize("message", ["Pipeline 'x' does not exist.", "Could not find pipeline with name x."])
def test_only_reads_are_asked_for_their_text(message: str) -> None:
    found = {call for call in CODES if is_not_found(call, "ValidationException", message)}
    assert found == {
        "sagemaker.describe_pipeline",
        "sagemaker.describe_pipeline_execution",
        "sagemaker.list_pipeline_executions",
    }


def test_a_request_that_is_not_valid_is_no_absence() -> None:
    message = "1 validation error detected: Value 'x' at 'pipelineName' failed to satisfy constraint"
    assert not is_not_found("sagemaker.describe_pipeline", "ValidationException", message)


def test_no_other_module_names_a_code_of_absence() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value}"
        for path in [*(PACKAGE / "cloud").rglob("*.py"), *(PACKAGE / "cli").rglob("*.py")]
        if path.name != "not_found.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and ABSENCE.fullmatch(node.value)
    ]
    assert found == []
