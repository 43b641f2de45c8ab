"""The `NinjaAPI` instance: title, parser, authentication, errors; the endpoints are in `workorders.api`."""

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from workorders.api.auth import api_auth, authenticated
from workorders.api.body import StrictJSONParser
from workorders.api.guard import guarded
from workorders.api.problems import MEDIA_TYPE, ProblemDocument, handle_with
from workorders.api.router import router

PROBLEM_SCHEMA = "#/components/schemas/{model}"


class WorkOrdersAPI(NinjaAPI):
    """Names the problem document as every operation's other answer in the OpenAPI description."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(**options)
        document = ProblemDocument.model_json_schema(ref_template=PROBLEM_SCHEMA)
        schema["components"]["schemas"].update(document.pop("$defs", {}), ProblemDocument=document)
        content = {MEDIA_TYPE: {"schema": {"$ref": PROBLEM_SCHEMA.format(model="ProblemDocument")}}}
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"]["default"] = {"description": "An error", "content": content}
        return schema


api = WorkOrdersAPI(
    title="Work Orders",
    version="1.0.0",
    description="Turns a request into a pull request: work orders, their progress in git, and their logs.",
    urls_namespace="api",
    auth=api_auth,
    parser=StrictJSONParser(),
    docs_decorator=authenticated,
)
handle_with(api)
api.add_router("", router)
api_urls = guarded(api.urls)
