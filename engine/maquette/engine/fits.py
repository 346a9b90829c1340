"""Which content fits which shared type (rule G1).

pycrdt integrates a run of text into an array without a word, and then loops for ever when somebody reads the array.
The table says what Yjs' own types put into themselves. A set of type refs is a mask with a bit for each.
"""

from __future__ import annotations

from maquette.engine.update import Content

_NAMES = ("array", "map", "text", "XML element", "XML fragment", "XML hook", "XML text")
_ARRAY, _MAP, _TEXT, _ELEMENT, _FRAGMENT, _, _XML_TEXT = (1 << ref for ref in range(7))
_TEXTS = _TEXT | _XML_TEXT
_TREES = _ELEMENT | _FRAGMENT
_KEYED = _MAP | _ELEMENT | _TEXTS  # XML elements and texts have attributes

ALL_TYPES = _ARRAY | _KEYED | _TREES

_UNKEYED = {
    Content.DELETED: _ARRAY | _TEXTS | _TREES,
    Content.JSON: _ARRAY,
    Content.BINARY: _ARRAY,
    Content.ANY: _ARRAY,
    Content.STRING: _TEXTS,
    Content.EMBED: _TEXTS,
    Content.FORMAT: _TEXTS,
}
_AT_KEY = {
    Content.DELETED: _KEYED,
    Content.JSON: _KEYED,
    Content.BINARY: _KEYED,
    Content.ANY: _KEYED,
    Content.TYPE: _KEYED,
    Content.STRING: _ELEMENT | _TEXTS,  # attributes as older yrs writes them
}
_TYPE = (
    _ARRAY | _TEXTS,
    _ARRAY | _TEXTS,
    _ARRAY | _TEXTS,
    _ARRAY | _TEXTS | _TREES,
    _ARRAY | _TEXTS | _TREES,
    0,
    _ARRAY | _TEXTS | _TREES,
)


def holders(content: Content, key: str | None, type_ref: int | None) -> int:
    """The types that may hold such content, at a key or without; 0 when none may (subdocuments)."""
    if key is not None:
        return _AT_KEY.get(content, 0)
    return _UNKEYED.get(content, 0) if type_ref is None else _TYPE[type_ref]


def names(mask: int) -> str:
    """The set in words."""
    return " or ".join(name for ref, name in enumerate(_NAMES) if mask >> ref & 1) or "nothing"
