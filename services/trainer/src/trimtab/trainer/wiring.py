"""The trainer, put together."""

import asyncio
import hashlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Self

import msgspec

from trimtab.runtime.host import Service
from trimtab.runtime.stage import Effect
from trimtab.store.signing import Signer
from trimtab.trainer.adapters.fitting import Fitting
from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.settings import Settings, child_environment
from trimtab.trainer.stages import compared_with, stage

WARM_AFTER_S = 10.0
"""The fitting process has more to import than all services together: those that start beside this one come first."""


def build(settings: Settings) -> Service:
    """The service for these settings."""
    fitting = Fitting(place(settings), child_environment())

    async def perform(effect: Effect) -> Mapping[str, Any]:
        return await fitting.fit(order_of(effect))

    async def warmed() -> None:
        await asyncio.sleep(WARM_AFTER_S)
        await fitting.warm()

    return Service(
        name="trainer",
        stages=[stage(Signer.load(settings.signing.private_key_file).sign, perform)],
        resources=[Kept(fitting)],
        background=[warmed],
    )


def order_of(effect: Effect) -> Order:
    """What the fitting process is handed for an effect of the stage."""
    desk, wanted = effect.payload
    declared = msgspec.json.decode(desk.declared)
    champion, first = compared_with(desk, desk.champion), compared_with(desk, desk.first)
    return Order(declared, wanted.request_id, wanted.cause_kind, wanted.at_ms, champion, first)


def place(settings: Settings) -> Mapping[str, Any]:
    """What the fitting process is told once."""
    kafka = settings.kafka.connection()
    return {
        "kafka": {name: getattr(kafka, name) for name in type(kafka).__dataclass_fields__},
        "store_url": settings.store.url,
        "folder": str(settings.data_dir / "columns"),
        "code_version": metadata.version("trimtab-trainer"),
        "lock_digest": lock_digest(),
    }


def lock_digest() -> str:
    """sha256 of every installed distribution with its version."""
    installed = {f"{dist.metadata['Name']}=={dist.version}" for dist in metadata.distributions()}
    return hashlib.sha256("\n".join(sorted(installed)).encode()).hexdigest()


class Kept:
    """The fitting process, ended with the service. Nobody waits until it is warm: it takes longer than all the rest."""

    def __init__(self, fitting: Fitting) -> None:
        self._fitting = fitting

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._fitting.close()
