"""libvirt's wire protocol cut into messages: any cut of the stream gives the same ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.hypervisor.rpc_frames import (
    CALL,
    FINISH3,
    HEAD,
    KEEPALIVE,
    MIGRATION,
    PREPARE3,
    REMOTE,
    REPLY,
    Frames,
    StreamBroken,
    may_pass,
)


def message(program: int, procedure: int, kind: int, status: int = 0, body: bytes = b"") -> bytes:
    return HEAD.pack(HEAD.size + len(body), program, 1, procedure, kind, 7, status) + body


BODIES = st.binary(max_size=60)
MESSAGES = st.lists(st.tuples(st.sampled_from(sorted(MIGRATION)), st.booleans(), BODIES))


@given(MESSAGES, st.data())
def test_any_cut_gives_the_same_messages(
    parts: list[tuple[int, bool, bytes]], data: st.DataObject
) -> None:
    raws = [message(REMOTE, proc, REPLY if r else CALL, 0, body) for proc, r, body in parts]
    stream, frames, found = b"".join(raws), Frames(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += frames.feed(stream[:size])
        stream = stream[size:]
    assert [frame.raw for frame in found] == raws


@pytest.mark.parametrize("size", [0, 4, HEAD.size - 1, 1 << 31])
def test_a_length_that_is_none_ends_the_stream(size: int) -> None:
    with pytest.raises(StreamBroken):
        Frames().feed(HEAD.pack(size, REMOTE, 1, 1, CALL, 0, 0))


def test_only_the_good_answer_to_finish_is_the_word_of_success() -> None:
    def finished(*of: int) -> bool:
        (frame,) = Frames().feed(message(*of))
        return frame.finished

    assert finished(REMOTE, FINISH3, REPLY, 0)
    assert not finished(REMOTE, FINISH3, REPLY, 1), "an error"
    assert not finished(REMOTE, FINISH3, CALL, 0), "the question"
    assert not finished(REMOTE, PREPARE3, REPLY, 0)
    assert not finished(KEEPALIVE, FINISH3, REPLY, 0)


def test_only_calls_of_a_migration_pass() -> None:
    def passes(*of: int) -> bool:
        (frame,) = Frames().feed(message(*of))
        return may_pass(frame)

    assert all(passes(REMOTE, procedure, CALL) for procedure in MIGRATION)
    assert passes(KEEPALIVE, 1, 2)
    for procedure in (10, 12, 148, 233):  # create, destroy, and others that are no part of it
        assert not passes(REMOTE, procedure, CALL)
    assert not passes(REMOTE, FINISH3, REPLY)
    assert not passes(0x20008087, 1, CALL), "QEMU's monitor"
