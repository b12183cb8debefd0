"""The loop's declaration is changed while events flow, and changed back."""

import asyncio
import time
from pathlib import Path

import httpx
from faults import CALM_S, KEEPERS, Fault, Scene
from orders import WIDER, declared

EVERY = "2d"


async def new_version(scene: Scene) -> float:
    """An event gains a field, retrains come at another pace; some senders follow, others not; then all of it back."""
    folder = scene.victims.folder.parent
    other = folder / f"orders-{len(list(folder.glob('orders-*')))}"
    changed = declared(other, EVERY, WIDER)
    took_s = await _applied(scene, other)
    scene.sender.beside(changed)
    await asyncio.sleep(CALM_S)
    await scene.recovered(time.monotonic())
    took_s = max(took_s, await _applied(scene, folder / "orders"))
    await asyncio.sleep(CALM_S)
    scene.sender.beside(scene.sender.loop)
    return took_s


async def _applied(scene: Scene, loop: Path) -> float:
    """Apply a declaration, and wait until all that have tasks of the loop follow it."""
    began_s, before = time.monotonic(), _versions(scene)
    await asyncio.to_thread(scene.victims.apply, loop)
    await asyncio.to_thread(scene.victims.until, lambda: min(_versions(scene)) > max(before), "the newest version")
    return await scene.recovered(began_s)


def _versions(scene: Scene) -> list[int]:
    """Which version each of them runs; 0: none yet."""
    urls = [url for name in KEEPERS for url in scene.victims.addresses.services[name]]
    return [_version(f"{url}/status", scene.sender.loop.name) for url in urls]


def _version(url: str, loop: str) -> int:
    found = httpx.get(url, timeout=5.0, trust_env=False).json()["loops"].get(loop)
    return int(found["version"]) if found is not None and found["state"] == "running" else 0


NEW_VERSION = Fault(
    "new version", "a changed declaration is applied, some senders follow it, and back again", new_version
)
