"""The reader: what is well-formed, what is not, and what rewriting keeps."""

from __future__ import annotations

from pycrdt import Doc, Map

from maquette.engine.update import Content, read_update


def test_reads_what_pycrdt_writes_and_writes_the_same_bytes() -> None:
    doc: Doc[Map[object]] = Doc(client_id=11)
    nodes = doc.get("nodes", type=Map)
    nodes["chair"] = Map({"name": "Chair"})
    data = doc.get_update()
    update = read_update(data)
    assert [(item.id, item.parent, item.key, item.content) for item in update.structs[11]] == [
        ((11, 0), "nodes", "chair", Content.TYPE),
        ((11, 1), (11, 0), "name", Content.ANY),
    ]
    assert update.structs[11][1].value() == ["Chair"]
    assert update.encode() == data
