"""Calls of services: pages, waiting, and errors as sentences."""

import json
from collections.abc import Callable

import httpx
import pytest
from trimtab.cli.rest import Rest, ServiceRefusedError, ServiceSilentError

Handler = Callable[[httpx.Request], httpx.Response]


def service(handler: Handler) -> Rest:
    return Rest("registry", httpx.Client(transport=httpx.MockTransport(handler), base_url="http://registry"))


def test_all_items_page_by_page() -> None:
    def page(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params.get("after", 0))
        return httpx.Response(200, json={"items": [start, start + 1], "next": str(start + 2) if start < 4 else None})

    assert list(service(page).items("/v1/loops")) == [0, 1, 2, 3, 4, 5]


def test_a_body_goes_out_as_json() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=json.loads(request.content))

    assert service(echo).post("/v1", {"by": "anna", "note": None}) == {"by": "anna", "note": None}


def test_waiting_until_something_is_there_and_decided() -> None:
    answers = iter(
        [httpx.Response(404, json={"detail": "none"}), *(httpx.Response(200, json={"state": s}) for s in "pd")]
    )

    assert service(lambda _: next(answers)).until("/ask", "state", "p", seconds=10) == {"state": "d"}


def test_waiting_ends() -> None:
    assert service(lambda _: httpx.Response(404, json={"detail": "no"})).until("/ask", "state", "p", seconds=0) is None


REFUSALS = [
    (httpx.Response(404, json={"detail": "no loop 'x' is declared"}), "the registry refuses: no loop 'x' is declared"),
    (httpx.Response(409, json={"detail": "version 2 is the champion already"}), "version 2 is the champion already"),
    (
        httpx.Response(422, json={"detail": [{"loc": ["body", "by"], "msg": "Field required"}]}),
        "body.by: Field required",
    ),
    (httpx.Response(500, text="Internal Server Error"), "Internal Server Error"),
    (httpx.Response(502), "status 502"),
]


@pytest.mark.parametrize(("answer", "words"), REFUSALS)
def test_a_refusal_is_told_in_the_services_words(answer: httpx.Response, words: str) -> None:
    with pytest.raises(ServiceRefusedError, match=words):
        service(lambda _: answer).get("/v1")


def test_a_service_that_does_not_answer() -> None:
    def silent(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(ServiceSilentError, match=r"does not answer at http://registry .*trimtab status"):
        service(silent).get("/v1")
