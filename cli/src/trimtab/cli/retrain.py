"""`trimtab retrain`."""

import getpass
from typing import Annotated

import typer

from trimtab.cli.cluster.address import find
from trimtab.cli.rest import rest
from trimtab.cli.settings import ClusterSettings

ANSWER_S = 10.0
SERVICE = "retrain-controller"


def retrain(
    loop: Annotated[str, typer.Argument(help="The loop's name.")],
    note: Annotated[str | None, typer.Option("--note", "-n", help="Why; kept with the request.")] = None,
) -> None:
    """Ask for a retrain now. It overrides the cooldown, but neither an open retrain, a held stream nor the budget."""
    url = find(ClusterSettings()).services[SERVICE][0]
    with rest(SERVICE, url) as controller:
        wish = controller.post(f"/v1/loops/{loop}/retrain", {"by": getpass.getuser(), "note": note})
        found = controller.until(f"/v1/loops/{loop}/asks/{wish['ask_id']}", "state", "pending", seconds=ANSWER_S)
    if found is None or found["state"] == "pending":
        print(f"recorded as {wish['ask_id']}; not decided yet (see `trimtab status`)")
        return
    decision = found["decision"]
    if found["state"] == "declined":
        print(f"declined ({decision['reason']}): {decision['detail']}")
        raise typer.Exit(1)
    print(f"requested: {decision['request_id']}, with what had matured by {decision['at']}")
