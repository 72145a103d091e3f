"""The rule of what may differ between a story and the rack, from both sides."""

from __future__ import annotations

import pytest
from story_notes import Circumstances, comparable, differences

STORY = [
    "a: a and c do not hear each other [link-down]",
    "b: c is silent: its block is unchanged for 3.2 s, limit 3 s [host-silent]",
    "a: view 4 is a b, master a: c is silent [view-changed]",
    "a: a shall run web: c lost it, proof: silent (block N unchanged for 3.2 s); a has the "
    "most left: 80% of its memory (score 0.88); then b (0.88); c is down: it is dead [order-given]",
    "c: c gets no more time without storage: a has storage [time-refused]",
    "a: web runs on a [vm-runs]",
]
SAME = [
    ("numbers", "3.2 s, limit", "3.4 s, limit"),
    ("who saw it first", "b: c is silent", "a: c is silent"),
    ("a view's number", "view 4 is", "view 17 is"),
    ("who tells a view", "a: view 4", "b: view 4"),
    ("why others cannot", "; c is down: it is dead", ""),
    ("what is left", "80% of its memory (score 0.88)", "3% of its memory (score 0.12)"),
    ("what a block showed", "(block N unchanged for 3.2 s)", "(block N shows term T)"),
]
OTHER = [
    ("the host", "a shall run web", "b shall run web"),
    ("the VM", "web runs on a", "db runs on a"),
    ("who runs it", "a: web runs", "b: web runs"),
    ("the proof", "proof: silent", "proof: closed"),
    ("where most is left", "a has the most", "b has the most"),
    ("the reason", "c lost it", "b lost it"),
    ("the members", "is a b,", "is b,"),
    ("the code", "[vm-runs]", "[vm-adopted]"),
    ("a link between hosts that stay", "a and c do", "a and b do"),
]


def differ(real: list[str], *down: str) -> list[str]:
    told = comparable([STORY], Circumstances(3, down))[-1]
    return differences(told, comparable([real], Circumstances(16, down))[-1])


def changed(old: str, new: str) -> list[str]:
    real = [text.replace(old, new) for text in STORY]
    assert real != STORY
    return [text.replace("view 4", "view 17") for text in real]


@pytest.mark.parametrize(("what", "old", "new"), SAME)
def test_what_may_differ(what: str, old: str, new: str) -> None:
    assert not differ(changed(old, new))


@pytest.mark.parametrize(("what", "old", "new"), OTHER)
def test_what_may_not(what: str, old: str, new: str) -> None:
    found = differ(changed(old, new))
    assert {text[0] for text in found} == {"-", "+"}


@pytest.mark.parametrize("number", range(len(STORY)))
def test_a_note_that_is_only_on_one_side(number: int) -> None:
    rest = changed("view 4", "view 17")
    lost = rest.pop(number)
    assert [text[0] for text in differ(rest)] == ["-"]
    doubled = [*rest, lost, lost]
    once = "host-silent" in lost or "view-changed" in lost
    assert [text[0] for text in differ(doubled)] == ([] if once else ["+"])


def test_the_order_is_free() -> None:
    assert not differ(changed("view 4", "view 17")[::-1])


def test_a_host_that_went_down() -> None:
    """Its links and its asking for time are chance; what else it tells is not."""
    rest = [text for text in changed("view 4", "view 17") if "link-" not in text]
    assert not differ([text for text in rest if "time-refused" not in text], "c")
    assert differ([*rest, "c: c is a member of view 5, slot 3 [member]"], "c")


def test_a_view_counts_once_a_story_and_not_when_it_is_older() -> None:
    old, new = "c: view 3 is a b c, master a: c joins [view-changed]", STORY[2]
    counted = comparable([[old, new], [new]], Circumstances(3))
    assert [found.total() for found in counted] == [1, 0]


def test_what_is_wrong_is_never_the_same() -> None:
    assert differ([*changed("view 4", "view 17"), "BROKEN I1: web runs twice"])
