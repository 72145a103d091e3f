"""What every Register must do, as tests: subclass `RegisterKit` and say how to open one.

The promises are those of outlast/storage/register.py. The kit knows only the port.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from outlast.errors import InvalidInput
from outlast.storage.register import Outcome, Register

Open = Callable[[str], Register]


class RegisterKit:
    """Override `open_register`: each call of it gives one more host access to one storage."""

    @pytest.fixture
    def open_register(self) -> Open:
        raise NotImplementedError

    def test_what_was_never_written_is_version_0(self, open_register: Open) -> None:
        register = open_register("1")
        assert register.read("lease/web") == (0, None)
        assert register.read("view") == (0, None)
        assert register.names("lease") == []
        assert register.names("view") == []

    def test_another_host_reads_what_was_swapped(self, open_register: Open) -> None:
        a, b = open_register("1"), open_register("2")
        answer = a.swap("lease/web", 0, {"slot": 1})
        assert (answer.outcome, answer.version) == (Outcome.OK, 1)
        assert b.read("lease/web") == (1, {"slot": 1})
        assert b.swap("lease/web", 1, {"slot": 2}).version == 2
        assert a.read("lease/web") == (2, {"slot": 2})

    @pytest.mark.parametrize("expected", [0, 1, 3, 9])
    def test_only_the_newest_version_can_be_expected(
        self, open_register: Open, expected: int
    ) -> None:
        a, b = open_register("1"), open_register("2")
        for version in range(2):
            assert a.swap("view", version, {"n": version}).ok
        for register in (a, b):
            answer = register.swap("view", expected, {"n": "wrong"})
            assert (answer.outcome, answer.version) == (Outcome.CONFLICT, 2)
        assert b.read("view") == (2, {"n": 1})

    def test_a_swap_needs_no_reading_before(self, open_register: Open) -> None:
        assert open_register("1").swap("slot/7", 0, {"n": 1}).ok
        assert open_register("2").swap("slot/7", 1, {"n": 2}).ok
        assert open_register("3").read("slot/7") == (2, {"n": 2})

    def test_a_long_chain(self, open_register: Open) -> None:
        a, b = open_register("1"), open_register("2")
        for version in range(40):
            assert (a, b)[version % 2].swap("pool", version, {"n": version}).version == version + 1
        assert (
            a.read("pool") == b.read("pool") == open_register("3").read("pool") == (40, {"n": 39})
        )

    def test_values_come_back_as_they_were(self, open_register: Open) -> None:
        value: dict[str, object] = {
            "text": "ünï\n\u2028\x00 \"'", "deep": {"a": [1, 2, {"b": None}]}, "big": 2**60,
            "long": "x" * 200_000, "flag": True, "": 0.5, "empty": [],
        }  # fmt: skip
        assert open_register("1").swap("vm/web", 0, value).ok
        assert open_register("2").read("vm/web") == (1, value)

    def test_a_value_is_the_callers_own(self, open_register: Open) -> None:
        register = open_register("1")
        value: dict[str, object] = {"list": [1]}
        assert register.swap("vm/web", 0, value).ok
        value["list"] = "changed by the writer"
        read = register.read("vm/web")[1]
        assert read == {"list": [1]}
        read["list"] = "changed by a reader"
        assert register.read("vm/web")[1] == {"list": [1]}

    def test_names_of_a_class(self, open_register: Open) -> None:
        a, b = open_register("1"), open_register("2")
        for name in ("vm/web", "vm/db", "lease/web", "vm/a-1", "view"):
            assert a.swap(name, 0, {}).ok
        for register in (a, b):
            assert register.names("vm") == ["vm/a-1", "vm/db", "vm/web"]
            assert register.names("lease") == ["lease/web"]
            assert register.names("view") == ["view"]
            assert register.names("order") == []

    @pytest.mark.parametrize(
        "name",
        ["", "lease", "view/1", "lease/", "lease/Web", "lease/../x", "lease/a/b", "/etc",
         "lease/-a", "lease/a-", "lease/" + "a" * 64, "lease/a\n", "LEASE/a", "../a", "lease/ä"],
    )  # fmt: skip
    def test_bad_names_are_refused(self, open_register: Open, name: str) -> None:
        register = open_register("1")
        with pytest.raises(InvalidInput):
            register.read(name)
        with pytest.raises(InvalidInput):
            register.swap(name, 0, {})

    @pytest.mark.parametrize("value", [{"a": object()}, {"a": float("nan")}, {"a": b"x"}])
    def test_what_is_not_json_is_refused(
        self, open_register: Open, value: dict[str, object]
    ) -> None:
        register = open_register("1")
        with pytest.raises(InvalidInput):
            register.swap("vm/web", 0, value)
        assert register.read("vm/web") == (0, None)

    def test_of_many_hosts_exactly_one_wins_each_version(self, open_register: Open) -> None:
        hosts, versions = 4, 48
        won: list[int] = []
        unknown: list[int] = []
        troubles: list[BaseException] = []
        go = threading.Barrier(hosts)

        def race(host: int) -> None:
            register = open_register(str(host + 1))
            try:
                go.wait(20)
                while True:
                    version, value = register.read("lease/web")
                    count = value["count"] if value else 0
                    assert count == version, "an acknowledged swap was lost"
                    if version >= versions:
                        return
                    answer = register.swap("lease/web", version, {"count": count + 1, "by": host})
                    if answer.ok:
                        won.append(answer.version)
                    elif answer.outcome is Outcome.UNKNOWN:  # allowed, but then it is one of these
                        unknown.append(version + 1)
            except BaseException as trouble:
                troubles.append(trouble)

        threads = [threading.Thread(target=race, args=(host,)) for host in range(hosts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not troubles, troubles
        assert len(won) == len(set(won)), "two winners of one version"
        last = open_register("9").read("lease/web")[0]
        assert set(range(1, last + 1)) - set(won) <= set(unknown), "a version that nobody wrote"
        assert set(won) <= set(range(1, last + 1)), "a version that is not there"
        assert len(unknown) < last / 4, "uncertainty is the exception"
