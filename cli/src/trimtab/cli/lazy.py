"""Commands that are imported when they run: `trimtab --help` must not wait for scikit-learn."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


class LazyCommand(TyperCommand):
    """Stands for `target` ("module:name", a function or a typer.Typer) until it is called or asked for its own help."""

    def __init__(self, name: str, target: str, short: str, panel: str) -> None:
        super().__init__(name, help=short, rich_help_panel=panel)
        self._target = target

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Hand over to the real command, which parses its own arguments."""
        return self.load().make_context(info_name, args, parent=parent, **extra)

    def load(self) -> Any:
        """Import the module and build the command."""
        module, _, attribute = self._target.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        app = typer.Typer(add_completion=False, rich_markup_mode="rich")
        app.command(self.name)(found)
        return typer.main.get_command(app)
