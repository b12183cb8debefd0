"""The HTTP that every service has: health, readiness, status, metrics, and the service's own routes."""

import contextlib
import socket
import time
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trimtab.contracts import telemetry
from trimtab.runtime.host.answers import Limits, explain
from trimtab.runtime.host.service import Service
from trimtab.runtime.host.status import Status
from trimtab.runtime.metrics import Metrics
from trimtab.runtime.stage import Measure

MOST_BYTES = 16_000_000


def create_app(service: Service, status: Status, metrics: Metrics, most_bytes: int = MOST_BYTES) -> FastAPI:
    """The application. `most_bytes`: of the body of a request."""
    app = FastAPI(title=f"trimtab {service.name}", docs_url="/docs", redoc_url=None)
    app.add_middleware(Limits, most_bytes=most_bytes)
    app.add_middleware(Measured, metrics=metrics)
    explain(app, service.name)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process lives."""
        return {"service": service.name, "status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """200 once all that can run does; 503 with the reasons before. /status also names what a person has to mend."""
        reasons = status.unready()
        return JSONResponse({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    @app.get("/status")
    async def state() -> JSONResponse:
        """Loops, stages, tasks and views."""
        return JSONResponse(status.document())

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Metrics in Prometheus' text format."""
        metrics.record(status.measures())
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    if service.router is not None:
        app.include_router(service.router)
    return app


class Measured:
    """Times every request."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application, with an eye on the status of its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s, status = time.perf_counter(), 500

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, seen)
        finally:
            path = getattr(scope.get("route"), "path", "unknown")
            attributes = {"http.route": path, "http.response.status_code": str(status)}
            spent_s = time.perf_counter() - started_s
            self._metrics.record([Measure(telemetry.HTTP_SERVER_REQUEST_DURATION, spent_s, attributes)])


class Server(uvicorn.Server):
    """uvicorn within a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def server(app: FastAPI) -> Server:
    """A server for the running event loop."""
    return Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=5))


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Who connects before the server runs waits for it. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen()
    return sock
