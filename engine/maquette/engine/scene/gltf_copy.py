"""Copies objects out of one glTF file into another: bytes as they are, indices mapped, each object once.

Rule 1: bytes are copied by bufferView, never decoded, so that compressed and quantised geometry stays what it was.
Rule 2: only what a copied object needs comes along.
Rule 3: an extension's indices are mapped where `gltf_extensions` knows them; an extension that may hold others is left
        out with a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maquette.engine.scene.gltf_check import extension, is_texture_info
from maquette.engine.scene.gltf_extensions import (
    DRACO,
    INDEXED,
    INSTANCING,
    MESHOPT,
    QUANTIZATION,
    TEXTURE_SOURCES,
    UNDERSTOOD,
    VARIANTS,
    may_refer,
)
from maquette.engine.scene.gltf_file import GltfFile, Json, decode_data_uri
from maquette.engine.scene.gltf_output import Output, extension_names

Warn = Callable[[str], None]

CARRIED = UNDERSTOOD - INDEXED
PNG_SIGNATURE = b"\x89PNG"


class Copier:
    """Copies from one file, the asset `name`, into `output`. Methods take indices of the one and answer the other's."""

    def __init__(self, file: GltfFile, name: str, output: Output, warn: Warn) -> None:
        self.file = file
        self.name = name
        self._output = output
        self._warn = warn
        self._copied: dict[tuple[str, int], int] = {}
        self._declare()

    # --- bytes -------------------------------------------------------------------------------------------------

    def accessor(self, index: int) -> int:
        return self._once("accessors", index, self._accessor)

    def view(self, index: int) -> int:
        return self._once("bufferViews", index, self._view)

    def _accessor(self, index: int) -> int:
        source = self.file.items("accessors")[index]
        copied = self.rest(source, "accessor")
        if "bufferView" in source:
            copied["bufferView"] = self.view(source["bufferView"])
        if "sparse" in source:
            copied["sparse"] = {**source["sparse"]}
            for part in ("indices", "values"):
                view = self.view(source["sparse"][part]["bufferView"])
                copied["sparse"][part] = {**source["sparse"][part], "bufferView": view}
        return self._output.add("accessors", copied)

    def _view(self, index: int) -> int:
        source = self.file.items("bufferViews")[index]
        copied = self.rest(source, "bufferView")
        for key in ("buffer", "byteOffset", "byteLength"):
            copied.pop(key, None)
        for name in MESHOPT:
            if (packed := extension(source, name)) is not None:
                copied.setdefault("extensions", {})[name] = self._packed(packed)
        data = self.file.view(index)
        if data is None:
            return self._output.add_absent_view(source["byteLength"], **copied)
        return self._output.add_view(data, **copied)

    def _packed(self, packed: Json) -> Json:
        buffer = self.file.buffers[packed["buffer"]]
        start = packed.get("byteOffset", 0)
        assert buffer is not None, "check_gltf refuses compressed bytes in a buffer without bytes"
        offset = self._output.add_bytes(buffer[start : start + packed["byteLength"]])
        return {**packed, "buffer": 0, "byteOffset": offset}

    # --- looks -------------------------------------------------------------------------------------------------

    def material(self, index: int) -> Json:
        """A copy of a material, not yet part of the output: the scene's registers go over it first."""
        return self._with_textures(self.rest(self.file.items("materials")[index], "material"))

    def texture(self, index: int) -> int:
        return self._once("textures", index, self._texture)

    def image(self, index: int) -> int:
        return self._once("images", index, self._image)

    def _with_textures(self, owner: Json) -> Json:
        """The same object with its texture infos mapped, in the core and in any extension."""
        copied = {}
        for key, value in owner.items():
            if key == "extras" or not isinstance(value, dict):
                copied[key] = value
            elif is_texture_info(key, value):
                info = self._with_textures(self.rest(value, "texture info"))
                copied[key] = info | {"index": self.texture(value["index"])}
            else:
                copied[key] = self._with_textures(self.rest(value, "material") if "extensions" in value else value)
        return copied

    def _texture(self, index: int) -> int:
        source = self.file.items("textures")[index]
        copied = self.rest(source, "texture")
        if "source" in source:
            copied["source"] = self.image(source["source"])
        if "sampler" in source:
            sampler = self.file.items("samplers")[source["sampler"]]
            copied["sampler"] = self._output.intern("samplers", self.rest(sampler, "sampler"))
        for name in TEXTURE_SOURCES.intersection(copied.get("extensions", {})):
            found = copied["extensions"][name]
            if "source" in found:
                copied["extensions"][name] = {**found, "source": self.image(found["source"])}
        return self._output.add("textures", copied)

    def _image(self, index: int) -> int:
        source = self.file.items("images")[index]
        copied = self.rest(source, "image")
        if "uri" in source:
            kind, data = decode_data_uri(copied.pop("uri"), "/images")
            kind = kind or ("image/png" if data.startswith(PNG_SIGNATURE) else "image/jpeg")
            copied |= {"bufferView": self._output.add_view(data), "mimeType": source.get("mimeType", kind)}
        else:
            copied["bufferView"] = self.view(source["bufferView"])
        return self._output.add("images", copied)

    # --- meshes and nodes --------------------------------------------------------------------------------------

    def mesh(self, index: int, materials: list[int | None], mapped: Callable[[int], int]) -> Json:
        """A copy of a mesh whose primitives have the given materials of the output.

        `mapped` gives the output's material for one of the file's, for the variants that a primitive may switch to.
        """
        source = self.file.items("meshes")[index]
        primitives = [
            self._primitive(primitive, material, mapped)
            for primitive, material in zip(source["primitives"], materials, strict=True)
        ]
        return self.rest(source, "mesh") | {"primitives": primitives}

    def instancing(self, node: Json) -> Json | None:
        """The EXT_mesh_gpu_instancing of a node, mapped."""
        if (found := extension(node, INSTANCING)) is None:
            return None
        return {**found, "attributes": {key: self.accessor(index) for key, index in found["attributes"].items()}}

    def _primitive(self, source: Json, material: int | None, mapped: Callable[[int], int]) -> Json:
        copied = self.rest(source, "primitive")
        copied.pop("material", None)
        if material is not None:
            copied["material"] = material
        copied["attributes"] = self._attributes(source["attributes"])
        if "indices" in source:
            copied["indices"] = self.accessor(source["indices"])
        if "targets" in source:
            copied["targets"] = [self._attributes(target) for target in source["targets"]]
        if (draco := extension(source, DRACO)) is not None:
            view = self.view(draco["bufferView"])
            copied.setdefault("extensions", {})[DRACO] = {**draco, "bufferView": view}
        if (variants := extension(source, VARIANTS)) is not None:
            copied.setdefault("extensions", {})[VARIANTS] = self._variants(variants, mapped)
        return copied

    def _attributes(self, source: Json) -> Json:
        return {key: self.accessor(index) for key, index in source.items()}

    def _variants(self, source: Json, mapped: Callable[[int], int]) -> Json:
        known = (extension(self.file.root, VARIANTS) or {}).get("variants", [])
        return source | {
            "mappings": [
                mapping
                | {
                    "material": mapped(mapping["material"]),
                    "variants": [
                        self._output.add_extension_item(VARIANTS, "variants", known[index])
                        for index in mapping.get("variants", [])
                    ],
                }
                for mapping in source.get("mappings", [])
            ]
        }

    # --- extensions --------------------------------------------------------------------------------------------

    def rest(self, source: Json, place: str) -> Json:
        """A copy of an object with the extensions that hold no index; those of rule 3 are the caller's to map."""
        copied = {key: value for key, value in source.items() if key != "extensions"}
        kept = {
            name: value for name, value in source.get("extensions", {}).items() if self._is_carried(name, value, place)
        }
        if kept:
            copied["extensions"] = kept
        return copied

    def _is_carried(self, name: str, value: Json, place: str) -> bool:
        if name in INDEXED:
            return False
        has_textures = place in ("material", "texture info")
        if name in CARRIED or not may_refer(_without_texture_infos(value) if has_textures else value):
            return True
        self._warn(f"asset {self.name}: extension {name} of a {place} may refer to other objects and was left out")
        return False

    def _declare(self) -> None:
        """Extensions without objects of their own, such as KHR_mesh_quantization, are known by their declaration."""
        shown = {*extension_names(self.file.root), *(UNDERSTOOD - {QUANTIZATION})}
        self._output.declared |= {name for name in self.file.root.get("extensionsUsed", []) if name not in shown}
        self._output.required |= set(self.file.root.get("extensionsRequired", []))

    def _once(self, kind: str, index: int, copy: Callable[[int], int]) -> int:
        key = (kind, index)
        if key not in self._copied:
            self._copied[key] = copy(index)
        return self._copied[key]


def _without_texture_infos(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_texture_infos(item)
            for key, item in value.items()
            if key != "extras" and not is_texture_info(key, item)
        }
    return value
