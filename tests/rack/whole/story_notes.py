"""The notes of a story beside those that a real pool told: what may differ, and nothing else.

Both sides are lines as stories have them, `host: sentence [code]`, block by block. Within a block
each note of one side must stand on the other side, equally often, told by the same host, in the
same words. The rule lists all that may differ, each with its reason:

1. Order within a block: hosts of a real pool do not tell in step.
2. Numbers within a sentence: seconds, versions, shares of memory are measured.
3. Who tells what every host sees (ONCE): the first to see it is chance. It counts once a block.
4. A view counts once a story, whoever tells it, and not at all when it is older than the story: a
   host that boots tells the view it finds, and how long it boots is chance.
5. Links with a host that went down in this story: whether it boots before others miss it is chance.
6. Behind an order: how much is left on each host, and which of the others cannot take the VM. Real
   hosts measure what they carry, and the order is given just before or just after the view
   without its dead host. Stories for the rack say where a VM rather runs, so which one is chosen
   is no matter of measures, and must be the same.
7. The evidence in brackets behind a proof, not its kind: a block that says "closed" shows the next
   term a moment later, and which of the two is read is chance.
8. That a host which went down was refused more time: in a lab the watchdog leaves it half a second
   to ask and to tell.
9. Codes of OUTSIDE, each with its reason: the simulator does not pretend what they tell of. Nor
   does it write reports of loads, of which a real host may not know whether they were written.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outlast.sim.scenario import CHANCE, ONCE

OUTSIDE: Mapping[str, str] = {
    "agent-started": "told by the program around the core",
    "guard-ended": "told by the program around the core, of the boot before",
    "cpu-baseline": "told of real processors",
    "network-deaf": "told of packets of full size, which the simulator has none of",
    "network-heard": "its end",
    "margin-small": "told of how busy this machine is",
    "record-waits": "told by the program around the core, of its files",
    "record-back": "told by the program around the core, of its files",
    "vm-alive": "told when a guest's system is up; how long it boots here is chance",
    "vm-mute": "told when a guest's system is not up for long",
    "agent-away": "told after 0.3 s in a lab; no real program begins within that",
}
_LINE = re.compile(r"^(\S+): (.*) \[([a-z-]+)\]$")
_RANKING = re.compile(r"(?:only (\S+) can take it|(\S+) has the most left): .*")
_EVIDENCE = re.compile(r"(proof: [a-z]+) \([^)]*\)")
_NUMBER = re.compile(r"\d+(\.\d+)?")
_REPORT = re.compile(r"^whether report/\d+ was written is not known")
_VIEW = re.compile(r"^view (\d+) ")
_LINK = re.compile(r"^(\S+) and (\S+) ")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the rule needs to know about one side."""

    oldest_view: int  # the newest view before the story
    went_down: Collection[str] = ()  # hosts that had no power or were reset in the story


def line(host: str, sentence: str, code: str) -> str:
    """A note as a story has it."""
    for pattern, word in CHANCE:
        sentence = pattern.sub(word, sentence)
    return f"{host}: {sentence} [{code}]"


def comparable(blocks: Iterable[Sequence[str]], about: Circumstances) -> list[Counter[str]]:
    """What is left of each block's notes when everything is taken away that may differ."""
    views: set[int] = set()
    return [Counter(_block(told, about, views)) for told in blocks]


def _block(told: Sequence[str], about: Circumstances, views: set[int]) -> Iterator[str]:
    once: set[str] = set()
    for text in told:
        parsed = _LINE.match(text)
        if parsed is None:
            yield text  # WRONG, BROKEN: never equal to anything
            continue
        host, sentence, code = parsed.groups()
        if code in OUTSIDE or _REPORT.match(sentence) or _is_old_view(sentence, about, views):
            continue
        if code == "time-refused" and host in about.went_down:
            continue
        link = _LINK.match(sentence) if code.startswith("link-") else None
        if link and set(link.groups()) & set(about.went_down):
            continue
        sentence = _EVIDENCE.sub(r"\1", _RANKING.sub(r"\1\2 is best", sentence))
        words = f"{_NUMBER.sub('#', sentence)} [{code}]"
        if code not in ONCE:
            yield f"{host}: {words}"
        elif words not in once:
            once.add(words)
            yield words


def _is_old_view(sentence: str, about: Circumstances, views: set[int]) -> bool:
    """Rule 4; takes down what is new."""
    found = _VIEW.match(sentence)
    if found is None:
        return False
    number = int(found[1])
    old = number <= about.oldest_view or number in views
    views.add(number)
    return old


def differences(story: Counter[str], real: Counter[str]) -> list[str]:
    """Lines such as a diff has: - only in the story, + only on the rack."""
    missing = [f"- {text}" for text in (story - real).elements()]
    return missing + [f"+ {text}" for text in (real - story).elements()]
