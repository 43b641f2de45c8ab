"""The `NinjaAPI` instance: title, parser, authentication, errors; the endpoints are in `workorders.api`."""

from typing import Any

from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from workorders.api.auth import api_auth, authenticated
from workorders.api.body import StrictJSONParser
from workorders.api.description import add_problems
from workorders.api.guard import guarded
from workorders.api.problems import handle_with
from workorders.api.router import router


class WorkOrdersAPI(NinjaAPI):
    """Names the problem document in the OpenAPI description, which ninja derives from the good answers alone."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        schema = super().get_openapi_schema(**options)
        add_problems(schema)
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
