"""Replicas that edit at random and hear of each other late: where the tests of the reader get their updates.

Everything that a person could have written holds MARK, so that a test can look for it in bytes. A seed gives the same
edits every time.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from pycrdt import Array, Doc, Map, Text, TransactionEvent, UndoManager, XmlElement, XmlFragment, XmlText

MARK = "secret"
ROOTS = {"map": 1, "list": 0, "text": 2, "rich": 2, "page": 4}
"""The roots that replicas use, with their type refs."""

T = TypeVar("T", Map[Any], Array[Any], Text)

KEYS = ("name", "place", "x", "größe")
WORDS = ("secret ", "secret😀", "sécrét secret", "😀😁secret", "secret\n")


class Replica:
    """One person's document, with the updates that it made and nobody has fetched yet."""

    def __init__(self, client: int, random: Random) -> None:
        self.random = random
        self.doc: Doc[Any] = Doc(client_id=client)
        self.map: Map[Any] = self.doc.get("map", type=Map)
        self.list: Array[Any] = self.doc.get("list", type=Array)
        self.text = self.doc.get("text", type=Text)
        self.rich = self.doc.get("rich", type=Text)
        self.page = self.doc.get("page", type=XmlFragment)
        # only the text: pycrdt 0.14 frees what an undone nested type's items still point to, and segfaults later
        self.undo = UndoManager(scopes=[self.text], capture_timeout_millis=0)
        self.undo.include_origin("me")
        self.made: list[bytes] = []
        self._own = False
        self._subscription = self.doc.observe(self._note)
        self._actions: list[Callable[[], object]] = [
            *[self._set] * 5,
            *[self._nest] * 3,
            self._unset,
            *[self._push] * 2,
            self._pull,
            *[self._type] * 5,
            *[self._erase] * 2,
            self._embed,
            self._format,
            self._mark_up,
            self._attribute,
            self._prune,
            self.undo.undo,
            self.undo.redo,
        ]

    def _note(self, event: TransactionEvent) -> None:
        if self._own:
            self.made.append(event.update)

    def act(self) -> None:
        """One transaction of one to three edits."""
        self._own = True
        with self.doc.transaction(origin="me"):
            for _ in range(self.random.choice((1, 1, 1, 1, 3))):
                self._edit()
        self._own = False

    def hear(self, update: bytes) -> None:
        """Take in what another replica made."""
        self.doc.apply_update(update)

    def _edit(self) -> None:
        self.random.choice(self._actions[:-2])()

    def travel(self) -> None:
        """Undo or redo, which pycrdt does in transactions of its own."""
        self._own = True
        self.random.choice(self._actions[-2:])()
        self._own = False

    def _value(self, depth: int = 0) -> Any:
        kinds = 9 if depth < 2 else 7
        return (
            lambda: None,
            lambda: self.random.random() < 0.5,
            lambda: self.random.randint(-70, 70),
            lambda: self.random.randint(-(2**60), 2**60),
            lambda: self.random.uniform(-1e6, 1e6),
            lambda: self.random.choice(WORDS),
            lambda: MARK.encode() + self.random.randbytes(3),
            lambda: [self._value(depth + 1) for _ in range(self.random.randrange(4))],
            lambda: {key: self._value(depth + 1) for key in self.random.sample(KEYS, self.random.randrange(3))},
        )[self.random.randrange(kinds)]()

    def _nested(self, kind: type[T]) -> list[T]:
        values = [self.map[key] for key in sorted(self.map.keys())]  # pycrdt's own order is not the same every time
        return [value for value in values if isinstance(value, kind)]

    def _maps(self) -> list[Map[Any]]:
        return [self.map, *self._nested(Map)]

    def _lists(self) -> list[Array[Any]]:
        return [self.list, *self._nested(Array)]

    def _texts(self) -> list[Text]:
        return [self.text, *self._nested(Text)]

    def _set(self) -> None:
        self.random.choice(self._maps())[self.random.choice(KEYS)] = self._value()

    def _nest(self) -> None:
        new: Any = self.random.choice(
            (Map({"inner": MARK, "more": Map({"x": 1})}), Array([MARK, 2, Map()]), Text(MARK), Array([]))
        )
        self.random.choice(self._maps())[self.random.choice(KEYS)] = new

    def _unset(self) -> None:
        target = self.random.choice(self._maps())
        keys = sorted(target.keys())
        if keys:
            del target[self.random.choice(keys)]

    def _push(self) -> None:
        target = self.random.choice(self._lists())
        new = [self._value() for _ in range(self.random.randint(1, 3))]
        at = self.random.randint(0, len(target))
        target.insert(at, Map({"inner": MARK}) if self.random.random() < 0.3 else new[0])
        target.extend(new)

    def _pull(self) -> None:
        target = self.random.choice(self._lists())
        if len(target):
            at = self.random.randrange(len(target))
            del target[at : self.random.randint(at, len(target))]

    def _type(self) -> None:
        target = self.random.choice(self._texts())
        text = str(target)
        at = self.random.randint(0, len(text))
        target.insert(len(text[:at].encode()), self.random.choice(WORDS))

    def _erase(self) -> None:
        target = self.random.choice(self._texts())
        text = str(target)
        start = self.random.randint(0, len(text))
        end = min(len(text), start + self.random.randint(1, 4))
        if end > start:
            del target[len(text[:start].encode()) : len(text[:end].encode())]

    def _embed(self) -> None:
        self.rich.insert_embed(self.random.randint(0, len(self.rich)), {"image": MARK})

    def _format(self) -> None:
        self.rich.insert(self.random.randint(0, len(self.rich)), "secret words")
        start = self.random.randint(0, len(self.rich) - 1)
        self.rich.format(start, self.random.randint(start + 1, len(self.rich)), {"link": MARK, "bold": True})

    def _mark_up(self) -> None:
        element = self.page.children.append(XmlElement("p", {"class": MARK}))
        element.children.append(XmlText(MARK))
        element.children.append(XmlElement("br"))

    def _attribute(self) -> None:
        for element in list(self.page.children)[:1]:
            if isinstance(element, XmlElement):
                element.attributes[self.random.choice(KEYS)] = MARK

    def _prune(self) -> None:
        if len(self.page.children):
            del self.page.children[self.random.randrange(len(self.page.children))]


class Crowd:
    """Three replicas. `step` edits on one of them and may deliver; `news` gives what a server would be sent next."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        clients = [self.random.randrange(1, 2**bits) for bits in (7, 32, 32)]
        self.replicas = [Replica(client + number, self.random) for number, client in enumerate(clients)]
        self.sent: list[bytes] = []

    def step(self) -> list[bytes]:
        """One edit, then perhaps a delivery between two replicas; the updates that reach the server now."""
        author = self.random.choice(self.replicas)
        (author.travel if self.random.random() < 0.1 else author.act)()
        if self.random.random() < 0.3:
            self._meet()
        if self.random.random() < 0.7:
            return self._news(author)
        return []

    def _meet(self) -> None:
        giver, taker = self.random.sample(self.replicas, 2)
        since = taker.doc.get_state() if self.random.random() < 0.8 else b"\0"
        taker.hear(giver.doc.get_update(since))

    def _news(self, author: Replica) -> list[bytes]:
        """Its updates one by one, or everything it has, or a copy of something old."""
        chance = self.random.random()
        if chance < 0.1:
            return [author.doc.get_update()]
        if chance < 0.15 and self.sent:
            return [self.random.choice(self.sent)]
        news, author.made = author.made, []
        if chance < 0.25:
            self.random.shuffle(news)
        self.sent += news
        return news
