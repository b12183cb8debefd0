"""A skops archive with the same bytes for the same content.

skops names objects by their address in memory, and its zip entries by address or at random, with the time of day. Here
they are numbered in the order in which the schema names them, and dated 1980.
"""

import io
import json
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def reproducible(archive: bytes) -> bytes:
    """The same archive with numbers instead of addresses."""
    with ZipFile(io.BytesIO(archive)) as source:
        schema = json.loads(source.read(_SCHEMA))
        names = _Names()
        names.rewrite(schema)
        entries = {new: source.read(old) for old, new in names.files.items()}
    entries[_SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    target = io.BytesIO()
    with ZipFile(target, "w", compression=ZIP_DEFLATED, compresslevel=6) as written:
        for name, content in entries.items():
            written.writestr(ZipInfo(name, _EPOCH), content, compress_type=ZIP_DEFLATED, compresslevel=6)
    return target.getvalue()


class _Names:
    """Numbers ids and files in order of appearance. Mutable: one walk fills it."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self._ids: dict[int, int] = {}
        self._next = 0

    def rewrite(self, node: Any) -> None:
        """Renumber a node and all below it, in place."""
        if isinstance(node, list):
            for item in node:
                self.rewrite(item)
        elif isinstance(node, dict):
            self._rewrite_node(node)

    def _rewrite_node(self, node: dict[str, Any]) -> None:
        if isinstance(node.get("__id__"), int):
            node["__id__"] = self._number(node)
        if isinstance(node.get("file"), str):
            node["file"] = self._file(node["file"])
        for value in node.values():
            self.rewrite(value)

    def _number(self, node: dict[str, Any]) -> int:
        """Plain values get a number each: whether two equal texts are one object is the interpreter's chance."""
        if node.get("is_json"):
            self._next += 1
            return self._next
        if node["__id__"] not in self._ids:
            self._next += 1
            self._ids[node["__id__"]] = self._next
        return self._ids[node["__id__"]]

    def _file(self, old: str) -> str:
        if old not in self.files:
            self.files[old] = f"{len(self.files)}.{old.rpartition('.')[2]}"
        return self.files[old]
