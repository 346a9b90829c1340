"""The bridge to Node."""

from __future__ import annotations

import pytest
from tests.support import node


def test_run_gives_what_the_script_prints() -> None:
    assert node.run("echo.mjs", [{"text": "aé😀"}, [1, None]]) == [{"text": "aé😀"}, [1, None]]


def test_run_reports_the_scripts_own_error() -> None:
    with pytest.raises(node.NodeFailed, match="failed as asked"):
        node.run("echo.mjs", ["fail"])


def test_run_ends_a_script_that_takes_too_long() -> None:
    with pytest.raises(node.NodeFailed, match=r"expected an end within 0\.5 s"):
        node.run("--eval", args=["setInterval(() => {}, 1000)"], timeout=0.5)


def test_a_dialogue_answers_one_by_one() -> None:
    with node.talk("echo.mjs") as echo:
        assert echo.ask({"n": 1}) == {"n": 1}
        assert echo.ask("zwei") == "zwei"


def test_a_dialogue_that_ends_says_why() -> None:
    with node.talk("echo.mjs") as echo:
        echo.send("fail")
        with pytest.raises(node.NodeFailed, match="failed as asked"):
            echo.receive()
