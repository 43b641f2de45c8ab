"""Requests made up from the OpenAPI description, fitting and not: no 5xx, and every answer is as described.

The seed is fixed. EXAMPLES for each operation, once fitting and once hostile; about 15 s on each database.
"""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.api import api
from config.wsgi import application
from tests.factories import make_log, make_order, make_run
from workorders import wiring

pytestmark = [pytest.mark.django_db]
EXAMPLES = 12
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    (method.upper(), path)
    for path, operations in api.get_openapi_schema()["paths"].items()
    for method in operations
]
BOUNDED = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, open_connections: None) -> Any:
    """The description bound to the WSGI application in this thread and transaction; nothing asks GitHub."""
    monkeypatch.setattr(wiring, "examine_repository", lambda _url: (None, "Nobody was asked.", True))
    schema = schemathesis.openapi.from_dict(dict(api.get_openapi_schema()))
    schema.app = application
    return schema


@pytest.mark.parametrize(
    "mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fitting", "hostile"]
)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda text: text)
def test_answers_are_as_described(in_process: Any, method: str, path: str, mode: GenerationMode) -> None:
    order = make_order(status="completed", cost_usd="1.25", github_pull_request_number=3)
    make_run(order)
    make_log(order, "a", number=1)
    operation = in_process[path][method]

    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode), is_known=st.booleans())
    def run(case: Case[Any], is_known: bool) -> None:
        if is_known and "agent_work_order_id" in case.path_parameters:
            case.path_parameters["agent_work_order_id"] = str(order)
        case.headers["Host"] = "testserver"
        case.call_and_validate(checks=CHECKS, base_url="http://testserver")

    run()
