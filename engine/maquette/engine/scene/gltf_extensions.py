"""Which glTF extensions are understood, and which of the others can be copied from file to file as they are.

An extension's object may hold indices into the arrays of its own file. Copied blindly into another file they would name
something else, which is worse than a missing extension: so what we do not understand is carried only when it holds
nothing that could be an index (a whole number, or a JSON pointer into an array).

Registry: https://github.com/KhronosGroup/glTF/tree/main/extensions.
"""

from __future__ import annotations

import re

MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
DRACO = "KHR_draco_mesh_compression"
INSTANCING = "EXT_mesh_gpu_instancing"
LIGHTS = "KHR_lights_punctual"
VARIANTS = "KHR_materials_variants"
VISIBILITY = "KHR_node_visibility"
QUANTIZATION = "KHR_mesh_quantization"
EMISSIVE_STRENGTH = "KHR_materials_emissive_strength"

INDEXED = frozenset({*MESHOPT, DRACO, INSTANCING, LIGHTS, VARIANTS})
"""They hold indices, and the exporter maps each where it stands."""

PLAIN = frozenset(
    {
        EMISSIVE_STRENGTH,
        VISIBILITY,
        "KHR_materials_anisotropy",
        "KHR_materials_clearcoat",
        "KHR_materials_diffuse_transmission",
        "KHR_materials_dispersion",
        "KHR_materials_ior",
        "KHR_materials_iridescence",
        "KHR_materials_pbrSpecularGlossiness",
        "KHR_materials_sheen",
        "KHR_materials_specular",
        "KHR_materials_transmission",
        "KHR_materials_unlit",
        "KHR_materials_volume",
        QUANTIZATION,
        "KHR_texture_transform",
    }
)
"""Their whole numbers are amounts, apart from texture infos and texture sources, which are mapped wherever they are."""

TEXTURE_SOURCES = frozenset({"KHR_texture_basisu", "EXT_texture_webp", "EXT_texture_avif", "MSFT_texture_dds"})
"""On a texture: another image for it, as `source`."""

UNDERSTOOD = INDEXED | PLAIN | TEXTURE_SOURCES

_POINTER = re.compile(r"/.*\d")


def may_refer(value: object, *, whole_floats: bool = False) -> bool:
    """Whether anything in `value` could be an index into its file, or a JSON pointer through one.

    With `whole_floats` 3.0 counts as 3, which is how an index comes back from a Yjs document.
    """
    match value:
        case bool():
            return False
        case int():
            return True
        case float():
            return whole_floats and value.is_integer()
        case str():
            return _POINTER.match(value) is not None
        case dict():
            return any(may_refer(item, whole_floats=whole_floats) for item in value.values())
        case list():
            return any(may_refer(item, whole_floats=whole_floats) for item in value)
    return False
