"""Watching what happens in a CRDT without keeping it, or its watcher, in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar
from weakref import finalize, ref

import pycrdt

Owner = TypeVar("Owner")


def watch(
    owner: Owner, doc: pycrdt.Doc[Any], note: Callable[[Owner, pycrdt.TransactionEvent], None]
) -> Callable[[], object]:
    """Call `note(owner, event)` behind each transaction of `doc`, as long as `owner` lives. What is returned ends it.

    An observer of a pycrdt document is held by native code, together with the document: neither is ever freed before
    `unobserve`, because Python's collector cannot look in there.
    """
    return _ending(owner, doc, doc.observe(_teller(owner, note)))


def watch_deep(owner: Owner, shared: pycrdt.Map[Any], note: Callable[[Owner, list[Any]], None]) -> Callable[[], object]:
    """The same for what happens in `shared` and all that lies in it."""
    return _ending(owner, shared, shared.observe_deep(_teller(owner, note)))


def _teller(owner: Owner, note: Callable[[Owner, Any], None]) -> Callable[[Any], None]:
    this = ref(owner)

    def tell(event: Any) -> None:
        alive = this()
        if alive is not None:
            note(alive, event)

    return tell


def _ending(
    owner: object, watched: pycrdt.Doc[Any] | pycrdt.Map[Any], kept: pycrdt.Subscription
) -> Callable[[], object]:
    ending = finalize(owner, watched.unobserve, kept)
    ending.atexit = False
    return ending
