"""The API's own page: every call and every shape of the document, in words."""

from __future__ import annotations

import json
import re

from test_pages import check_page, text

from conftest import Site
from outlast.manager.web.reference import chapters, shapes

DOCUMENT = {
    "paths": {
        "/vms/{vm}": {
            "patch": {
                "tags": ["VMs"], "summary": "Change", "description": "Its size.\n\nMore.",
                "parameters": [
                    {"name": "vm", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
                "requestBody": {"content": {"application/json": {
                    "schema": {"$ref": "#/components/schemas/Change"}}}},
                "responses": {"204": {"description": "done"}},
            }
        }
    },
    "components": {"schemas": {"Change": {"required": ["mib"], "properties": {
        "mib": {"type": "integer", "minimum": 1, "description": "memory"},
        "tags": {"type": "array", "items": {"$ref": "#/components/schemas/Tag"}},
        "by": {"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]},
        "sizes": {"type": "object", "additionalProperties": {"type": "number", "default": 2}},
        "mode": {"enum": ["a", "b"]},
    }}}},
}  # fmt: skip


def test_a_call_is_told_in_words() -> None:
    ((tag, (call,)),) = chapters(DOCUMENT).items()
    assert (tag, call.method, call.path) == ("VMs", "PATCH", "/vms/{vm}")
    assert call.about == "Its size.\n\nMore."
    ((place, field),) = call.fields
    assert (place, field.name, field.type, field.needed) == ("path", "vm", "string", True)
    assert call.body is not None and (call.body.shape, call.body.needed) == ("Change", False)
    assert [(status, f.type, f.about) for status, f in call.answers] == [("204", "nothing", "done")]


def test_a_shape_is_told_in_words() -> None:
    (shape,) = shapes(DOCUMENT)
    assert {f.name: (f.type, f.shape, f.needed) for f in shape.fields} == {
        "mib": ("integer, at least 1", "", True), "tags": ("list of Tag", "Tag", False),
        "by": ("string, at most 9 characters or null", "", False),
        "sizes": ("number, else 2 by name", "", False), "mode": ('"a" or "b"', "", False),
    }  # fmt: skip


def test_the_page_has_all_of_the_document(site: Site) -> None:
    page = check_page(site.get("/reference"), "/api/v1/docs")
    document = json.loads(text(site.get("/api/v1/openapi.json")))
    for path, methods in document["paths"].items():
        for method in methods:
            assert f"<code>{method.upper()} {path}</code>" in page
    names = set(document["components"]["schemas"])
    assert set(re.findall(r'id="shape-(\w+)"', page)) == names
    assert set(re.findall(r'href="#shape-(\w+)"', page)) <= names
