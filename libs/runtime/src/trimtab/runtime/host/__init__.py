"""Runs a service as a process: stages of all loops, HTTP, telemetry, a clean end."""

from trimtab.runtime.host.process import run, serve
from trimtab.runtime.host.service import LoopWork, Service

__all__ = ["LoopWork", "Service", "run", "serve"]
