"""Nothing the pool core can say is unheard of: every note occurs in a story or in a named test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outlast.pool.journal import SENTENCES

TESTS = Path(__file__).parent
STORIES = "\n".join(p.read_text(encoding="utf-8") for p in (TESTS / "scenarios").glob("*/*.txt"))
# what stories cannot show, and the test that does
ELSEWHERE = {
    "agent-started": "rack/whole/test_failover.py",
    "host-leaves": "rack/whole/test_maintenance.py",
    "call-refused": "agent/test_refusals.py",
    "cpu-baseline": "agent/test_processors.py",
    "margin-small": "agent/test_margin.py",
    "power-silent": "agent/test_power_watch.py",
    "power-answers": "agent/test_power_watch.py",
    "beats-lost": "agent/test_beat_paths.py",
    "beats-back": "agent/test_beat_paths.py",
    "witness-lost": "agent/test_witness.py",
    "witness-back": "agent/test_witness.py",
    "network-lacks": "network/test_networks.py",
    "network-deaf": "network/test_reach.py",
    "network-heard": "network/test_reach.py",
    "network-there": "network/test_networks.py",
    "backup-made": "agent/test_backup_timer.py",
    "backup-failed": "agent/test_backup_timer.py",
    "backup-late": "agent/test_backup_timer.py",
    "repository-lacks": "mounts/test_repository_keeper.py",
    "repository-there": "mounts/test_repository_keeper.py",
    "disk-work": "agent/test_disk_work.py",
    "record-waits": "agent/test_notebook.py",
    "record-back": "agent/test_notebook.py",
    "journal-unread": "agent/test_notebook.py",
    "guard-ended": "agent/test_last_words.py",
    "term-ended": "agent/test_last_words.py",
    "fence-begins": "agent/test_fencer.py",
    "fence-failed": "agent/test_fencer.py",
    "balancing": "agent/test_balancer.py",
    "timing-changed": "rack/whole/test_timing_changed.py",
    "drill-begins": "agent/test_drilling.py",
    "drill-ended": "agent/test_drilling.py",
    "drill-refused": "agent/test_drilling.py",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_note_is_uttered_somewhere(code: str) -> None:
    if code not in ELSEWHERE:
        assert f"[{code}]" in STORIES
        return
    assert f"[{code}]" not in STORIES, "a story utters it now: take it off the list"
    assert code in (TESTS / ELSEWHERE[code]).read_text(encoding="utf-8")


def test_stories_utter_known_notes_only() -> None:
    assert set(re.findall(r"\[([a-z-]+)\]$", STORIES, re.MULTILINE)) <= set(SENTENCES)
