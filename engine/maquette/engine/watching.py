"""Watching what happens in a CRDT without keeping it, or its watcher, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import finalize, ref

import pycrdt

Owner = TypeVar("Owner")


def watch(owner: Owner, doc: pycrdt.Doc[Any], note: Callable[[Owner, pycrdt.TransactionEvent], None]) -> None:
    """Call `note(owner, event)` behind each transaction of `doc`, as long as `owner` lives.

    An observer of a pycrdt document is held by native code, together with the document: neither is ever freed before
    `unobserve`, because Python's collector cannot look in there.
    """
    this = ref(owner)

    def tell(event: pycrdt.TransactionEvent) -> None:
        alive = this()
        if alive is not None:
            note(alive, event)

    finalize(owner, doc.unobserve, doc.observe(tell)).atexit = False
