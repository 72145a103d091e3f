"""Does this etcd keep the promises a pool lives on? `outlast storage probe --etcd URL ...`.

It works below a prefix of its own and removes it. What it finds out: which members answer, and
whether losing one would stop the pool; whether of several that swap through different members one
wins; whether a read at any member shows what was acknowledged by another; how long a heartbeat and
a swap take from here; and which timing presets that leaves.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

from outlast.errors import InvalidInput, StorageTrouble
from outlast.storage.etcd import Etcd, remove_all
from outlast.storage.etcd_access import Access
from outlast.storage.etcd_heartbeat import EtcdArea
from outlast.storage.etcd_register import EtcdRegister
from outlast.storage.format import BLOCK_SIZE
from outlast.storage.probe import (
    CONTESTANTS,
    ROUNDS_MIN,
    Check,
    ProbeReport,
    Progress,
    beats_of,
    judged,
    spread,
    swaps_of,
)
from outlast.storage.register import Outcome

LOSING = re.compile(r"3\.5\.[0-2](\D|\Z)")  # may lose what it acknowledged when a member dies
QUORUM = 3


def probe_etcd(
    access: Access, rounds: int = 200, progress: Progress = lambda _step, _done, _all: None
) -> ProbeReport:
    """Put an etcd to the test; `progress(step, done, all)` is called before each step.

    Raises InvalidInput, and StorageTrouble when it does not answer at all.
    """
    if rounds < ROUNDS_MIN:
        raise InvalidInput(f"a probe needs at least {ROUNDS_MIN} rounds")
    access = replace(access, pool=f".probe-{secrets.token_hex(8)}")
    etcd = Etcd(access)
    each = [Etcd(replace(access, urls=(url,))) for url in access.urls]
    steps = 5
    progress("asking the members", 0, steps)
    version = str(etcd.call("/v3/maintenance/status", {}).get("version", "?"))
    members = etcd.call("/v3/cluster/member/list", {}).get("members", [])
    etcd.get("x")  # by a majority
    try:
        silent = list(_silent(each))
        checks = [_answers(silent, len(each)), _members(len(members), len(each)), _version(version)]
        answering = [one for one in each if one.access.urls[0] not in silent] or [etcd]
        progress("racing for swaps", 1, steps)
        checks.append(_race(answering, rounds))
        progress("reading behind a writer", 2, steps)
        checks.append(_reads(answering, rounds))
        progress("timing heartbeats", 3, steps)
        beat = spread(beats_of(EtcdArea(etcd, 1), rounds))
        progress("timing swaps", 4, steps)
        swap = spread(swaps_of(EtcdRegister(etcd, "1"), rounds))
        progress("done", steps, steps)
    finally:
        remove_all(etcd)
    where = ", ".join(access.urls)
    return judged(where, "etcd", f"{len(members)} members, {version}", checks, beat, swap)


def _silent(each: Sequence[Etcd]) -> Iterator[str]:
    for one in each:
        try:
            one.get("x")
        except StorageTrouble:
            yield one.access.urls[0]


def _answers(silent: Sequence[str], count: int) -> Check:
    name = "every address answers"
    if silent:
        return Check(name, False, f"{', '.join(silent)} did not", needed=False)
    return Check(name, True, f"{count} of {count}")


def _members(count: int, known: int) -> Check:
    name = "it outlasts a member"
    if count < QUORUM:
        return Check(name, False, f"{count} in all: without one nothing works", needed=False)
    if known < count:
        sentence = f"it has {count} members, but only {known} were named here: name all"
        return Check(name, False, sentence, needed=False)
    return Check(name, True, f"of {count} members {(count - 1) // 2} may be lost")


def _version(version: str) -> Check:
    name = "its version keeps what it acknowledged"
    if LOSING.match(version):
        return Check(name, False, f"{version} may lose data when a member dies; take a newer one")
    return Check(name, True, version)


def _race(each: Sequence[Etcd], rounds: int) -> Check:
    """Contestants swap the same register through different members."""
    won: list[int] = []
    unknown: list[str] = []
    go = threading.Barrier(CONTESTANTS)

    def contest(number: int) -> None:
        register = EtcdRegister(each[number % len(each)], str(number))
        go.wait(60)
        try:
            while (version := register.read("view")[0]) < rounds:
                answer = register.swap("view", version, {"by": number})
                if answer.ok:
                    won.append(version)
                elif answer.outcome is Outcome.UNKNOWN:
                    unknown.append("an answer was not known")
        except StorageTrouble as trouble:
            unknown.append(trouble.sentence)

    threads = [threading.Thread(target=contest, args=(n,)) for n in range(CONTESTANTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name = "a swap has one winner"
    if unknown:
        return Check(name, False, unknown[0])
    if sorted(won) != list(range(len(won))) or len(won) < rounds:
        return Check(name, False, f"of {rounds} rounds {len(won) - len(set(won))} had two winners")
    return Check(name, True, f"{CONTESTANTS} at once, {rounds} rounds, one winner each time")


def _reads(each: Sequence[Etcd], rounds: int) -> Check:
    writer, stale, trouble = EtcdArea(each[0], 2), 0, ""
    try:
        for number in range(rounds):
            block = number.to_bytes(4, "big") * (BLOCK_SIZE // 4)
            writer.write_block(block)
            stale += EtcdArea(each[number % len(each)]).read_all(2)[2] != block
    except StorageTrouble as error:
        trouble = error.sentence
    name = "reads show what was written"
    if stale or trouble:
        return Check(name, False, trouble or f"{stale} of {rounds} reads were old")
    return Check(name, True, f"{rounds} reads at {len(each)} addresses, none old")
