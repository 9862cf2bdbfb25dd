"""docs/api.md: the OpenAPI document for readers."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from infra.openapi.document import JSON, public, sentence
from infra.openapi.examples import ANSWERS, BODIES, QUERIES
from infra.openapi.properties import definition_name
from infra.openapi.refusals import refusals

Json = Mapping[str, Any]

EVERYWHERE = {"X-API-Key", "X-Request-Id"}  # parameters, said once
OURS = {"500", "504"}  # statuses, the same
URL, KEY = "http://localhost:8080", "your-api-key"
INTRODUCTION = """\
# API reference

<!-- Written by `python -m infra.openapi` from the route table; a change here is lost. -->

{about}

The document that this page is made of is [terraform/openapi.json](../terraform/openapi.json): OpenAPI 2.0, which API
Gateway runs and from which clients can be generated. WebSockets (`/v1/sessions/{{id}}/shell` and `…/terminal`) and what
reaches a workspace's own API (`…/agent/…`) are not in it: the relay serves them, see the [README](../README.md).

`{url}` and `{key}` are those of `make up`. Every answer has the header `X-Request-Id`; one that
is sent is kept. A status 500 is `internal`, a fault of ours. Where API Gateway itself refuses a call (404 for an
unknown path, 405 for another method, 504 for a function that took too long) it says so in its words:
`{{"code", "message"}}`.

Pages of the origins in `ONMEMOS_ALLOWED_ORIGINS` may call every path from a browser.
"""


def reference(document: Json) -> str:
    """The page."""
    parts = [INTRODUCTION.format(about=document["info"]["description"], url=URL, key=KEY), *_contents(document)]
    for tag in document["tags"]:
        parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
        parts += [_operation(*found) for found in _operations(document, tag["name"])]
    parts += _errors()
    parts.append("## What is sent and answered\n")
    examples = {definition_name(schema): example for schema, example in {**BODIES, **ANSWERS}.items()}
    parts += [_definition(name, document["definitions"][name], examples) for name in sorted(document["definitions"])]
    return "\n".join(parts)


def _operations(document: Json, tag: str) -> Iterator[tuple[str, str, Json]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method != "options" and tag in operation["tags"]:
                yield method.upper(), path, operation


def _contents(document: Json) -> Iterator[str]:
    yield "| call | what it does |\n|---|---|"
    for tag in document["tags"]:
        for method, path, operation in _operations(document, tag["name"]):
            yield f"| [`{method} {path}`](#{operation['operationId']}) | {operation['summary']} |"
    yield ""


def _operation(method: str, path: str, operation: Json) -> str:
    parameters = [one for one in operation["parameters"] if one["in"] != "body" and one["name"] not in EVERYWHERE]
    body = next((one for one in operation["parameters"] if one["in"] == "body"), None)
    lines = [f"### {operation['operationId']}\n", f"`{method} {path}`\n", f"{operation['summary']}\n"]
    if parameters:
        rows = ([f"`{one['name']}`", one["in"], _kind(one), _wanted(one, one.get("required"))] for one in parameters)
        lines += [*_table(["parameter", "in", "type", ""], rows), ""]
    if body is not None:
        lines.append(f"Body: {_link(body['schema'])}.{'' if body['required'] else ' It may be left out.'}\n")
    lines.append(f"```sh\n{_curl(method, path, operation)}\n```\n")
    answers = ([status, _answer(one)] for status, one in operation["responses"].items() if status not in OURS)
    return "\n".join([*lines, *_table(["status", "answer"], answers), ""])


def _answer(response: Json) -> str:
    if "x-codes" not in response:
        return _link(response["schema"])
    return ", ".join(f"`{code}`" for code in response["x-codes"])


def _errors() -> Iterator[str]:
    yield "## Errors\n\nEvery one is an [Error](#error).\n"
    found = {kind: status for route in public() for status, kinds in refusals(route).items() for kind in kinds}
    rows = ([str(status), f"`{kind.code}`", sentence(kind)] for kind, status in found.items())
    yield from _table(["status", "code", "what it says"], sorted(rows))
    yield ""


def _definition(name: str, definition: Json, examples: Json) -> str:
    required = definition.get("required", ())
    is_sent = definition.get("additionalProperties") is False
    rows = (
        [f"`{field}`", _kind(one), _wanted(one, is_sent and field in required)] for field, one in _fields(definition)
    )
    lines = [f"### {name}\n", f"{definition['description']}\n", *_table(["field", "type", ""], rows), ""]
    if name in examples:
        lines.append(f"```json\n{json.dumps(examples[name], indent=2, ensure_ascii=False)}\n```\n")
    return "\n".join(lines)


def _fields(definition: Json, prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Those of an object within it, too."""
    for name, one in definition["properties"].items():
        yield f"{prefix}{name}", one
        if "properties" in one and one.get("additionalProperties") in (None, False):
            yield from _fields(one, f"{prefix}{name}.")


def _kind(one: Json) -> str:
    if "$ref" in one:
        return _link(one)
    if one["type"] == "array":
        text = f"array of {_kind(one['items'])}"
    elif "enum" in one:
        text = ", ".join(f"`{word}`" for word in one["enum"])
    else:
        text = f"{one['type']} ({one['format']})" if "format" in one else one["type"]
    return f"{text}, or null" if one.get("x-nullable") else text


def _wanted(one: Json, required: object) -> str:
    """What a value is for, and what it must be."""
    facts = []
    if required:
        facts.append("**required**")
    if "minimum" in one and "maximum" in one:
        least = "above " if one.get("exclusiveMinimum") else ""
        facts.append(f"{least}{one['minimum']:,} to {one['maximum']:,}")
    if "minItems" in one:
        facts.append(f"{one['minItems']} to {one['maxItems']} items" if "maxItems" in one else "not empty")
    if "default" in one:
        facts.append(f"default `{json.dumps(one['default'], ensure_ascii=False)}`")
    text = [one["description"]] if "description" in one else []
    return ". ".join([*text, ", ".join(facts)] if facts else text)


def _curl(method: str, path: str, operation: Json) -> str:
    name = operation["operationId"]
    for one in operation["parameters"]:
        if one["in"] == "path":
            path = path.replace(f"{{{one['name']}}}", one["x-example"])
    query = f"?{urlencode(QUERIES[name], quote_via=quote)}" if name in QUERIES else ""
    words = ["curl"] + (["-X", method] if method != "GET" else [])
    lines = [" ".join([*words, shlex.quote(f"{URL}{path}{query}")])]
    if any(one["name"] == "X-API-Key" for one in operation["parameters"]):
        lines.append(f'-H "X-API-Key: {KEY}"')
    body = next((one for one in operation["parameters"] if one["in"] == "body"), None)
    if body is not None and body["required"]:
        schema = _named(body["schema"])
        example = next(example for kind, example in BODIES.items() if definition_name(kind) == schema)
        lines += [f'-H "Content-Type: {JSON}"', f"-d {shlex.quote(json.dumps(example))}"]
    return " \\\n  ".join(lines)


def _named(reference: Json) -> str:
    name: str = reference["$ref"].rpartition("/")[2]
    return name


def _link(reference: Json) -> str:
    return f"[{_named(reference)}](#{_named(reference).lower()})"


def _table(heads: list[str], rows: Iterable[list[str]]) -> list[str]:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return [line(heads), f"|{'---|' * len(heads)}", *map(line, rows)]
