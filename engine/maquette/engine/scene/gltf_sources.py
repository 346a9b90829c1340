"""The assets that an export copies from, each opened when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from maquette.engine.errors import NotFound
from maquette.engine.scene.gltf_check import check_gltf
from maquette.engine.scene.gltf_copy import Copier, Warn
from maquette.engine.scene.gltf_extensions import INDEXED, may_refer
from maquette.engine.scene.gltf_file import GltfError, Json, read_container
from maquette.engine.scene.gltf_output import Output

Source = tuple[str, int, str]
"""Asset id, node index, instance id: what a node of an import came from."""


class Sources:
    """Copiers by asset id. What an asset cannot give is a warning, never an error: any writer can name any asset."""

    def __init__(self, assets: Callable[[str], bytes], output: Output, warn: Warn) -> None:
        self._assets = assets
        self._output = output
        self._warn = warn
        self._copiers: dict[str, Copier | None] = {}

    def copier(self, asset: str) -> Copier | None:
        """The copier of an asset; None when there is no such asset, or when it is no glTF file."""
        if asset not in self._copiers:
            self._copiers[asset] = self._open(asset)
        return self._copiers[asset]

    def find(self, kind: str, reference: Any) -> tuple[Copier, int] | None:
        """The object that a register `[asset, index, …]` names; None, with a warning, when there is none."""
        if reference is None:
            return None
        asset, index = str(reference[0]), int(reference[1])
        if (copier := self.copier(asset)) is None:
            return None
        if index >= len(copier.file.items(kind)):
            found = len(copier.file.items(kind))
            self._warn(f"asset {asset}: expected an index into its {found} {kind}, got {index}: left out")
            return None
        return copier, index

    def finish(self) -> None:
        """Carry what belongs to the files as a whole: their copyright, and root extensions that hold no index."""
        files = [copier.file for copier in self._copiers.values() if copier is not None]
        notes = {note for file in files if isinstance(note := file.root["asset"].get("copyright"), str)}
        if notes:
            self._output.root["asset"]["copyright"] = "; ".join(sorted(notes))
        for file in files:
            for name, value in file.root.get("extensions", {}).items():
                if name not in INDEXED:
                    self._carry(name, value)

    def _carry(self, name: str, value: Json) -> None:
        carried = self._output.root.get("extensions", {})
        if may_refer(value) or carried.get(name, value) != value:
            self._warn(f"extension {name} of a whole file may refer to its objects or to another file: left out")
        else:
            self._output.root["extensions"] = carried | {name: value}

    def _open(self, asset: str) -> Copier | None:
        try:
            file = read_container(self._assets(asset))
            check_gltf(file)
        except (NotFound, GltfError) as error:
            self._warn(f"asset {asset}: left out of the export: {error}")
            return None
        return Copier(file, asset, self._output, self._warn)


def source_of(node: Mapping[str, Any]) -> Source | None:
    """What the node came from; None for one that was made in the scene."""
    if (source := node.get("source")) is None:
        return None
    return str(source[0]), int(source[1]), str(source[2])
