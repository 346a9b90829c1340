"""The materials of an export: what the source asset says, under the registers that the scene sets over it.

A register that says what the source says already leaves the source's own spelling of the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from maquette.engine.scene.gltf_copy import Copier, Warn
from maquette.engine.scene.gltf_extensions import EMISSIVE_STRENGTH
from maquette.engine.scene.gltf_file import Json
from maquette.engine.scene.gltf_import import material_registers
from maquette.engine.scene.gltf_notes import with_note
from maquette.engine.scene.gltf_output import Output
from maquette.engine.scene.gltf_sources import Sources

FIELDS = {
    "name": "name",
    "alpha_mode": "alphaMode",
    "alpha_cutoff": "alphaCutoff",
    "double_sided": "doubleSided",
}
SURFACE_FIELDS = {
    "base_color": "baseColorFactor",
    "metallic": "metallicFactor",
    "roughness": "roughnessFactor",
}


class Materials:
    """The scene's `materials` by id, added to `output` when first asked for."""

    def __init__(self, materials: Mapping[str, Json], output: Output, sources: Sources) -> None:
        self._materials = materials
        self._output = output
        self._sources = sources
        self._added: dict[Any, int] = {}
        self._by_source: dict[tuple[str, int], str] = {}
        for name in sorted(materials):
            if (source := materials[name].get("source")) is not None:
                self._by_source.setdefault((str(source[0]), int(source[1])), name)

    def of_slots(self, slots: Mapping[str, str], primitives: list[Json], copier: Copier) -> list[int | None]:
        """The output's material for each primitive: its slot's, else (no slot, or a material that is gone) its own."""
        return [
            self.material(slots[key])
            if (key := str(index)) in slots and slots[key] in self._materials
            else self._own(copier, primitive)
            for index, primitive in enumerate(primitives)
        ]

    def of_slot(self, slots: Mapping[str, str]) -> int | None:
        """The output's material for the only primitive of a parametric shape."""
        name = slots.get("0", "")
        return self.material(name) if name in self._materials else None

    def of_source(self, copier: Copier, index: int) -> int:
        """The output's material for one of an asset's: the scene's with that source, else a plain copy."""
        name = self._by_source.get((copier.name, index))
        return self.raw(copier, index) if name is None else self.material(name)

    def material(self, name: str) -> int:
        """The index of a scene's material in the output."""
        if name not in self._added:
            self._added[name] = self._output.add("materials", self._made(name))
        return self._added[name]

    def raw(self, copier: Copier, index: int) -> int:
        """The index of a copy of an asset's material as it is."""
        key = (copier.name, index)
        if key not in self._added:
            self._added[key] = self._output.add("materials", copier.material(index))
        return self._added[key]

    def finish(self, warn: Warn) -> None:
        """Add what no node uses, unless it would bring an asset along; then say so."""
        for name, registers in self._materials.items():
            if registers.get("source") is None:
                self.material(name)
        if left := len(self._materials) - sum(name in self._added for name in self._materials):
            warn(f"{left} imported materials that no node uses were left out")

    def _own(self, copier: Copier, primitive: Json) -> int | None:
        return self.raw(copier, primitive["material"]) if "material" in primitive else None

    def _made(self, name: str) -> Json:
        registers = self._materials[name]
        made: Json = {}
        said: Json = {}
        if (found := self._sources.find("materials", registers.get("source"))) is not None:
            copier, index = found
            made = copier.material(index)
            said = material_registers(copier.file.items("materials")[index])
        over_written = {field: value for field, value in registers.items() if said.get(field) != value}
        return with_note(_over(made, over_written), registers.get("extras"), {"id": name})


def _over(made: Json, registers: Json) -> Json:
    """A glTF material with `registers` set over it."""
    made = made | {FIELDS[field]: value for field, value in registers.items() if field in FIELDS}
    surface = {SURFACE_FIELDS[field]: value for field, value in registers.items() if field in SURFACE_FIELDS}
    if surface:
        made["pbrMetallicRoughness"] = made.get("pbrMetallicRoughness", {}) | surface
    return _with_emissive(made, registers["emissive"]) if "emissive" in registers else made


def _with_emissive(made: Json, emissive: list[float]) -> Json:
    """Above 1 by KHR_materials_emissive_strength, in powers of two, so that the product is exact again."""
    peak = max(emissive)
    strength = math.ldexp(1.0, math.frexp(peak)[1]) if peak > 1 else 1.0
    extensions = {**made.get("extensions", {})}
    extensions.pop(EMISSIVE_STRENGTH, None)
    if strength > 1:
        extensions[EMISSIVE_STRENGTH] = {"emissiveStrength": strength}
    made = {key: value for key, value in made.items() if key != "extensions"}
    factor = emissive if strength == 1 else [part / strength for part in emissive]
    return made | {"emissiveFactor": factor} | ({"extensions": extensions} if extensions else {})
