"""Calls made out of the API's own document, good and bad ones: answers must be what it promises.

A real manager process on https with SQLite and a pool; schemathesis draws the calls. Draws are the
same at each run. Routes are drawn in an order that leaves the pool's VM until the end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from calling import V, wait
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from pretend import RealPool
from process import Process
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from outlast.manager.ports import Grant
from outlast.manager.repository import records
from outlast.manager.repository.store import Repository
from outlast.wire.client import AgentClient
from outlast.wire.shapes import VmCreate, make

DRAWS = {GenerationMode.POSITIVE: 12, GenerationMode.NEGATIVE: 5}
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_headers_conformance, response_schema_conformance,
]  # fmt: skip
# routes that are not drawn, each with its reason
LEFT = {
    ("GET", f"{V}/events/stream"): "never ends",
    ("POST", f"{V}/set-up"): "is over once there are users",
    ("POST", f"{V}/login"): "guessing is slowed down, and then all else from here",
}
SAME = settings(
    database=None, deadline=None, derandomize=True, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


class Contract:
    def __init__(self, root: Path) -> None:
        self.real = RealPool(root)
        client = AgentClient(self.real.url("a"), pki=self.real.pki)
        client.create(make(VmCreate, name="web", memory="512MiB"))
        self.manager = Process(root / "manager", real=self.real)
        token = self.manager.user("anna", Grant("admin"))
        link = self.real.link("a")
        repository = Repository(f"sqlite:///{root}/manager/var/manager/manager.db")
        repository.write_now(
            lambda c: records.put_pool(c, link.pool_id, link.name, link.agents, 1.0)
        )
        repository.close()
        self.manager.start()
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(self.manager.root / "var/manager/tls/cert.pem")
        self.session.headers["Authorization"] = f"Bearer {token}"
        self.url = f"https://127.0.0.1:{self.manager.port}"
        at = f"{self.url}{V}/pools/{self.real.id}"
        wait(lambda: self.session.get(at, timeout=10).json().get("stale") is False, 60)
        self.document = self.session.get(f"{self.url}{V}/openapi.json", timeout=10).json()

    def operations(self, document: Any) -> list[Any]:
        schema = schemathesis.openapi.from_dict(document)
        found = [result.ok() for result in schema.get_all_operations()]
        kept = [one for one in found if (one.method.upper(), one.full_path) not in LEFT]
        assert len(found) - len(kept) == len(LEFT)
        return sorted(kept, key=lambda one: one.method == "delete")

    def close(self) -> None:
        self.session.close()
        self.manager.kill()
        self.real.close()


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Contract]:
    made = Contract(tmp_path_factory.mktemp("contract"))
    yield made
    made.close()


def broken(contract: Contract, operation: Any, mode: GenerationMode, seen: Counter[int]) -> str:
    """What of the document the answers do not keep; "" = nothing."""
    checks = CHECKS + [negative_data_rejection] * (mode is GenerationMode.NEGATIVE)
    names = {"pool": contract.real.id, "vm": "web", "host": "b"}
    known = {name: value for name, value in names.items() if f"{{{name}}}" in operation.path}

    @settings(SAME, max_examples=DRAWS[mode])
    @given(case=operation.as_strategy(mode, path_parameters=known or None))
    def answers(case: Any) -> None:
        said = case.call(
            contract.url, session=contract.session, timeout=20, verify=contract.session.verify
        )
        seen[said.status_code] += 1
        case.validate_response(said, checks=checks)

    try:
        answers()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # there is nothing about it to do wrong
    except FailureGroup as group:
        found = "; ".join(f"{error!s:.1000}" for error in group.exceptions)
        return f"{operation.method} {operation.path}: {found}"
    return ""


@pytest.mark.parametrize("mode", DRAWS)
def test_every_answer_is_one_that_the_document_knows(
    contract: Contract, mode: GenerationMode
) -> None:
    seen: Counter[int] = Counter()
    wrong = [broken(contract, one, mode, seen) for one in contract.operations(contract.document)]
    assert not list(filter(None, wrong)), "\n\n".join(filter(None, wrong))
    assert seen.total() > 200
    good = seen.total() if mode is GenerationMode.NEGATIVE else seen[200] + seen[202]
    assert good > 80
    assert not [status for status in seen if status >= 500]


def test_an_answer_that_the_document_does_not_know_is_found(contract: Contract) -> None:
    """The document is falsified in three ways; each is noticed."""
    words = {"field": "schema", "status": "status code", "type": "content-type"}
    for change in ("field", "status", "type"):
        document = json.loads(json.dumps(contract.document))
        answers = document["paths"][f"{V}/me"]["get"]["responses"]
        if change == "field":
            document["components"]["schemas"]["MeOut"]["required"].append("shoes")
        elif change == "status":
            answers["201"] = answers.pop("200")
        else:
            answers["200"]["content"] = {"text/plain": {"schema": {"type": "string"}}}
        (me,) = [o for o in contract.operations(document) if o.full_path == f"{V}/me"]
        found = broken(contract, me, GenerationMode.POSITIVE, Counter())
        assert words[change] in found.lower(), found


def test_every_route_with_a_gate_says_so_in_the_document(contract: Contract) -> None:
    found = contract.document["paths"]
    for path, methods in found.items():
        for method, told in methods.items():
            bare = (method.upper(), path) in {
                ("POST", f"{V}/login"), ("POST", f"{V}/login/code"), ("POST", f"{V}/set-up"),
                ("GET", f"{V}/health"),
            }  # fmt: skip
            assert bool(told.get("security")) != bare, (method, path)
