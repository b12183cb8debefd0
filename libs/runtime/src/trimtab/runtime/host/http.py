"""The HTTP that every service has: health, readiness, status, metrics, and the service's own routes."""

import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

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
    explain(app, service.name)

    @app.middleware("http")
    async def measure(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        started_s = time.perf_counter()
        response = await call_next(request)
        route = request.scope.get("route")
        attributes = {
            "http.route": getattr(route, "path", "unknown"),
            "http.response.status_code": str(response.status_code),
        }
        spent_s = time.perf_counter() - started_s
        metrics.record([Measure(telemetry.HTTP_SERVER_REQUEST_DURATION, spent_s, attributes)])
        return response

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process lives."""
        return {"service": service.name, "status": "ok"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """200 once everything has been read and every task runs; 503 with the reasons before."""
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
    """A listening socket; port 0 takes a free one. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock
