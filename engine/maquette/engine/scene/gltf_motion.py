"""The skins and animations of an export.

Rule 1: a skin is written once for all nodes that share it and its joints.
Rule 2: each animation of an asset is written once for each instance of the asset, with the channels whose node is
        exported and can still take them; the others are counted in a warning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from maquette.engine.scene.gltf_check import PATHS
from maquette.engine.scene.gltf_copy import Copier, Warn
from maquette.engine.scene.gltf_file import Json
from maquette.engine.scene.gltf_output import Output
from maquette.engine.scene.gltf_selection import Selection
from maquette.engine.scene.gltf_sources import Sources, source_of


class Motion:
    """Adds skins and animations to `output`, whose nodes are there already."""

    def __init__(self, selection: Selection, output: Output, sources: Sources, warn: Warn) -> None:
        self._selection = selection
        self._output = output
        self._sources = sources
        self._warn = warn

    def add_skins(self) -> None:
        """Give each skinned node its skin."""
        known: dict[tuple[str, int, tuple[str, ...]], int] = {}
        for node, skin in self._selection.skins.items():
            if skin not in known:
                known[skin] = self._output.add("skins", self._skin(*skin))
            self._output.root["nodes"][self._selection.indices[node]]["skin"] = known[skin]

    def add_animations(self, nodes: Mapping[str, Json]) -> None:
        """Write the animations of all instances that `nodes` come from."""
        sources = (source_of(nodes[node]) for node in self._selection.indices)
        for asset, instance in dict.fromkeys((source[0], source[2]) for source in sources if source is not None):
            if (copier := self._sources.copier(asset)) is None:
                continue
            for animation in copier.file.items("animations"):
                self._add_animation(animation, copier, instance, nodes)

    def _skin(self, asset: str, index: int, joints: tuple[str, ...]) -> Json:
        copier = self._sources.copier(asset)
        assert copier is not None, "a skin was selected from it"
        source = copier.file.items("skins")[index]
        skin = copier.rest(source, "skin") | {"joints": [self._selection.indices[joint] for joint in joints]}
        # only a hint, and the joint roots that it names may hang elsewhere by now
        skin.pop("skeleton", None)
        if "inverseBindMatrices" in source:
            skin["inverseBindMatrices"] = copier.accessor(source["inverseBindMatrices"])
        return skin

    def _add_animation(self, source: Json, copier: Copier, instance: str, nodes: Mapping[str, Json]) -> None:
        channels = list(self._channels(source, copier, instance, nodes))
        if lost := len(source["channels"]) - len(channels):
            name = source.get("name", "without a name")
            self._warn(f"animation {name!r}: {lost} of its {len(source['channels'])} channels were left out")
        if not channels:
            return
        used = sorted({channel["sampler"] for channel in channels})
        animation = copier.rest(source, "animation") | {
            "channels": [channel | {"sampler": used.index(channel["sampler"])} for channel in channels],
            "samplers": [self._sampler(source["samplers"][index], copier) for index in used],
        }
        self._output.add("animations", animation)

    def _channels(self, source: Json, copier: Copier, instance: str, nodes: Mapping[str, Json]) -> Iterator[Json]:
        for channel in source["channels"]:
            target = channel["target"]
            node = self._selection.by_source.get((copier.name, target.get("node", -1), instance))
            if node is not None and self._can_take(nodes[node], target, copier):
                yield copier.rest(channel, "channel") | {
                    "target": copier.rest(target, "channel target") | {"node": self._selection.indices[node]}
                }

    def _can_take(self, node: Json, target: Json, copier: Copier) -> bool:
        """Whether the node has what the channel moves: the format allows no motion of a matrix or of absent weights."""
        if target["path"] not in PATHS:
            return False
        if target["path"] != "weights":
            return node.get("matrix") is None
        mesh = node.get("mesh")
        origin = copier.file.items("nodes")[target["node"]]
        return isinstance(mesh, list | tuple) and [mesh[0], int(mesh[1])] == [copier.name, origin.get("mesh")]

    def _sampler(self, source: Json, copier: Copier) -> Json:
        return copier.rest(source, "sampler") | {key: copier.accessor(source[key]) for key in ("input", "output")}
