"""Calls of the services' HTTP from commands: answers as data, errors as sentences."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from trimtab.cli.errors import ClusterError

TIMEOUT_S = 30.0


class ServiceSilentError(ClusterError):
    """A service that cannot be reached."""

    def __init__(self, service: str, url: str, reason: str) -> None:
        super().__init__(f"the {service} does not answer at {url} ({reason}): see `trimtab status` and `trimtab logs`")


class ServiceRefusedError(ClusterError):
    """A service said no. `detail`: its own words."""

    def __init__(self, service: str, status: int, detail: str) -> None:
        self.status, self.detail = status, detail
        super().__init__(f"the {service} refuses: {detail}")


class Rest:
    """One service. Made by `rest`."""

    def __init__(self, service: str, client: httpx.Client) -> None:
        self._service, self._client = service, client

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        """An answer's JSON. Raises ServiceSilentError, ServiceRefusedError."""
        return self._json(self._client.build_request("GET", path, params=dict(params or {})))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """An answer's JSON. Raises ServiceSilentError, ServiceRefusedError."""
        return self._json(self._client.build_request("POST", path, json=dict(body)))

    def items(self, path: str) -> Iterator[Any]:
        """All items of a list, page by page."""
        after: Mapping[str, str] = {}
        while True:
            page = self.get(path, {"limit": 200, **after})
            yield from page["items"]
            if page["next"] is None:
                return
            after = {"after": page["next"]}

    def until(self, path: str, ready: str, pending: str, *, seconds: float) -> Any:
        """What is at a path once its field `ready` is no longer `pending` (or nothing is there); at most so long."""
        deadline = time.monotonic() + seconds
        while True:
            found = self._find(path)
            if (found is not None and found[ready] != pending) or time.monotonic() > deadline:
                return found
            time.sleep(0.1)

    def _find(self, path: str) -> Any:
        try:
            return self.get(path)
        except ServiceRefusedError as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise

    def _json(self, request: httpx.Request) -> Any:
        try:
            answer = self._client.send(request)
        except httpx.HTTPError as error:
            raise ServiceSilentError(self._service, str(self._client.base_url), str(error)) from error
        if answer.is_error:
            raise ServiceRefusedError(self._service, answer.status_code, _detail(answer))
        return answer.json()


@contextmanager
def rest(service: str, url: str) -> Iterator[Rest]:
    """Calls of a service, for a `with`. Proxies of the environment are not used: services are near."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as client:
        yield Rest(service, client)


def _detail(answer: httpx.Response) -> str:
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return answer.text[:300] or f"status {answer.status_code}"
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in detail)
    return str(detail)
