"""Remakes `github_openapi_slice.json` from GitHub's own OpenAPI description.

    cd /tmp && npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python tests/fakes/make_github_slice.py /tmp/package/generated/api.github.com.json

Kept are the answers of the operations the product uses, and the schemas those refer to, without prose. The
description is OpenAPI 3.0: `nullable` becomes a null type, so that any JSON Schema validator understands it.
"""

import json
import sys
from pathlib import Path
from typing import Any

SLICE = Path(__file__).with_name("github_openapi_slice.json")
REPO = "/repos/{owner}/{repo}"
OPERATIONS = (
    ("get", "/user"),
    ("get", "/rate_limit"),
    ("get", REPO),
    ("get", f"{REPO}/issues"),
    ("get", f"{REPO}/issues/{{issue_number}}"),
    ("get", f"{REPO}/issues/{{issue_number}}/comments"),
    ("post", f"{REPO}/issues/{{issue_number}}/comments"),
    ("get", f"{REPO}/pulls"),
    ("post", f"{REPO}/pulls"),
    ("get", f"{REPO}/pulls/{{pull_number}}"),
    ("patch", f"{REPO}/pulls/{{pull_number}}"),
)
PROSE = {"description", "title", "example", "examples", "externalDocs", "discriminator", "default"}
ERRORS = ("basic-error", "validation-error")


def main(source: Path) -> None:
    document = json.loads(source.read_text())
    wanted = list(ERRORS)
    operations: dict[str, Any] = {}
    for method, path in OPERATIONS:
        operation = document["paths"][path][method]
        answer = next(value for status, value in operation["responses"].items() if status in {"200", "201"})
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        operations[f"{method.upper()} {path}"] = {
            "answer": plain(answer["content"]["application/json"]["schema"], wanted),
            "request": plain(body, wanted) if body else None,
        }
    schemas: dict[str, Any] = {}
    while wanted:
        name = wanted.pop()
        if name not in schemas:
            schemas[name] = plain(document["components"]["schemas"][name], wanted)
    version = document["info"]["version"]
    result = {"version": version, "operations": operations, "schemas": dict(sorted(schemas.items()))}
    SLICE.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


def plain(schema: Any, wanted: list[str]) -> Any:
    """The schema as plain JSON Schema; names of the schemas it refers to are added to `wanted`."""
    if isinstance(schema, list):
        return [plain(item, wanted) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rsplit("/", 1)[1]
        wanted.append(name)
        return {"$ref": f"#/schemas/{name}"}
    kept = {
        key: {name: plain(value, wanted) for name, value in item.items()}
        if key == "properties"
        else plain(item, wanted)
        for key, item in schema.items()
        if key not in PROSE and not key.startswith("x-")
    }
    if kept.pop("nullable", False):
        return {"anyOf": [kept, {"type": "null"}]}
    return kept


if __name__ == "__main__":
    main(Path(sys.argv[1]))
