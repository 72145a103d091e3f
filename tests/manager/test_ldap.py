"""Logins of a directory, against a real slapd: TLS both ways, groups, names that attack filters."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import V
from desk import BOSS, Desk, Said
from ldap3 import MODIFY_ADD, MODIFY_DELETE
from process import free_port
from slapd import SLAPD, WORD, Slapd

from outlast.errors import InvalidInput, Unreachable
from outlast.manager.directory import Directory
from outlast.manager.outside import Ldap, Outsider
from outlast.manager.ports import Grant
from outlast.manager.repository import records

pytestmark = pytest.mark.skipif(SLAPD is None, reason="apt-get install slapd")
PEOPLE = "ou=people,dc=corp,dc=example"


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slapd]:
    made = Slapd(tmp_path_factory.mktemp("slapd"))
    yield made
    made.stop()


@pytest.fixture
def desk(tmp_path: Path, slapd: Slapd) -> Iterator[Desk]:
    made = Desk(tmp_path / "manager", ldap=slapd.settings())
    made.run(made.manager.people.add_user(BOSS, "anna", WORD, (Grant("admin"),)))
    yield made
    made.close()


def ask(settings: Ldap, name: str, password: str = WORD) -> Outsider | None:
    return asyncio.run(Directory(settings).person(name, password))


def login(desk: Desk, name: str, password: str = WORD) -> Said:
    return desk.call("POST", f"{V}/login", {"name": name, "password": password})


def ways(slapd: Slapd) -> dict[str, Ldap]:
    plain = f"ldap://localhost:{slapd.port}"
    direct = f"uid={{name}},{PEOPLE}"
    return {
        "ldaps": slapd.settings(),
        "starttls": slapd.settings(server=plain),
        "bind as": slapd.settings(bind_as=direct, reader="", reader_password_file=""),
    }


@pytest.mark.parametrize("way", ["ldaps", "starttls", "bind as"])
def test_the_right_password_and_no_other(slapd: Slapd, way: str) -> None:
    settings = ways(slapd)[way]
    olga = ask(settings, "olga")
    assert olga is not None
    assert (olga.name, olga.roles) == ("olga", (Grant("operator"),))
    assert olga.subject.startswith("id:")
    bella, carl = ask(settings, "bella"), ask(settings, "carl")
    assert bella is not None and carl is not None
    assert (bella.roles, carl.roles) == ((Grant("admin"),), ())  # by memberUid; in none
    # servers take an empty password for a login of nobody, and say yes
    for name, word in (("olga", "wrong"), ("olga", ""), ("nobody", WORD), ("", WORD), ("", "")):
        assert ask(settings, name, word) is None, (name, word)


def test_names_stay_values(slapd: Slapd) -> None:
    settings = slapd.settings()
    for name in ("*", "ol*", "olga)(uid=*", "olga))(|(uid=*", "*)(objectClass=*", "ol\\67a",
                 "\x00olga", "olga,ou=people", "(", "ö" * 500):  # fmt: skip
        assert ask(settings, name) is None, name
        direct = slapd.settings(bind_as=f"uid={{name}},{PEOPLE}")
        assert ask(direct, name) is None, name
    # an entry whose own name is full of signs is found among the members of a group
    paul = ask(settings, "paul")
    assert paul is not None
    assert paul.roles == (Grant("operator"),)
    assert ask(settings, "twin") is None  # two of that name: nobody
    many = slapd.settings(people_filter="(objectClass=inetOrgPerson)")
    assert ask(many, "olga") is None  # so are six


def test_what_is_wrong_is_said(slapd: Slapd, tmp_path: Path) -> None:
    other = tmp_path / "secret"
    other.write_text("another\n")
    other.chmod(0o600)
    for settings, words in (
        (slapd.settings(reader_password_file=str(other)), "does not let the reader"),
        (slapd.settings(people_base="dc=none"), "refuses what this manager asks"),
        (slapd.settings(reader="", reader_password_file=""), "refuses what this manager asks"),
    ):
        with pytest.raises(InvalidInput, match=words):
            ask(settings, "olga")
    other.chmod(0o640)
    with pytest.raises(InvalidInput, match="can be read by others"):
        ask(slapd.settings(reader_password_file=str(other)), "olga")
    for settings in (
        slapd.settings(ca=""),  # nobody here trusts it
        slapd.settings(server=f"ldap://localhost:{slapd.port}", ca=""),
        slapd.settings(server=f"ldaps://127.0.0.1:{slapd.port_tls}"),  # not its name
        slapd.settings(server=f"ldap://localhost:{free_port()}"),
    ):
        with pytest.raises(Unreachable, match="does not answer"):
            ask(settings, "olga")


def test_a_first_login_makes_a_user(desk: Desk, slapd: Slapd) -> None:
    people = desk.manager.people
    assert login(desk, "olga", "wrong").status == 403
    assert login(desk, "OLGA").status == 403
    said = login(desk, "olga")
    assert (said.status, said.json["stage"]) == (200, "")
    olga = desk.run(people.user("olga"))
    assert (olga.origin, olga.grants, olga.password) == ("ldap", (Grant("operator"),), "")
    assert login(desk, "anna").status == 200  # who is a local user
    said = login(desk, "carl")
    assert (said.status, "in no group" in said.error["sentence"]) == (403, True)
    # what is kept there is not changed here
    token = desk.user("boss", Grant("admin"))
    for change in ({"password": "another long one"}, {"roles": []}):
        said = desk.call("PATCH", f"{V}/users/olga", change, token=token)
        assert (said.status, "comes from outside" in said.error["sentence"]) == (409, True)
    # a second factor may be needed of them as well
    desk.run(people.change_user(BOSS, "olga", code_needed=True))
    assert login(desk, "olga").json["stage"] == "enrol"
    desk.run(people.change_user(BOSS, "olga", disabled=True))
    assert login(desk, "olga").status == 403
    rows, _ = desk.run(desk.manager.repository.read(records.list_audit))
    assert WORD not in repr(rows)


def test_a_local_user_is_nobody_of_the_directory(desk: Desk, slapd: Slapd) -> None:
    desk.run(desk.manager.people.add_user(BOSS, "bella", "a word of her own", (Grant("viewer"),)))
    assert login(desk, "bella").status == 403  # the directory's password
    assert login(desk, "bella", "a word of her own").status == 200
    assert desk.run(desk.manager.people.user("bella")).grants == (Grant("viewer"),)


def test_a_directory_that_is_away_keeps_no_local_user_out(desk: Desk, slapd: Slapd) -> None:
    assert login(desk, "olga").status == 200
    slapd.stop()
    try:
        said = login(desk, "olga")
        assert (said.status, said.error["code"]) == (502, "unreachable")
        assert "does not answer" in said.error["sentence"]
        assert "kept here" in said.error["hint"]
        assert login(desk, "anna").status == 200
    finally:
        slapd.start()
    assert login(desk, "olga").status == 200


def test_somebody_else_with_the_same_name_inherits_nothing(desk: Desk, slapd: Slapd) -> None:
    assert login(desk, "olga").status == 200
    slapd.stop()
    again = Slapd(slapd.root.parent / f"again-{slapd.port}")  # the same names, other entries
    try:
        elsewhere = Directory(again.settings())
        desk.manager.people._directory = elsewhere
        said = login(desk, "olga")
        assert (said.status, "is somebody else" in said.error["sentence"]) == (403, True)
    finally:
        again.stop()
        slapd.start()


def test_tokens_rest_when_their_owner_stays_away(desk: Desk, slapd: Slapd) -> None:
    assert login(desk, "olga").status == 200
    people = desk.manager.people
    token, _ = desk.run(people.add_token(BOSS, "olga", "ci", (Grant("viewer"),), 90))
    assert desk.call("GET", f"{V}/me", token=token).status == 200
    wall, clock = people._wall, people._clock
    people._wall = lambda: wall() + 31 * 86400
    people._clock = lambda: clock() + 60
    said = desk.call("GET", f"{V}/me", token=token)
    assert (said.status, "has not logged in for 30 days" in said.error["sentence"]) == (401, True)
    assert login(desk, "olga").status == 200
    assert desk.call("GET", f"{V}/me", token=token).status == 200


def test_who_has_left_is_out_without_a_login(desk: Desk, slapd: Slapd) -> None:
    """Sessions and tokens end at the next roll call; of a directory that is away nobody leaves."""
    people, call = desk.manager.people, desk.manager.rollcall
    group, bella = "cn=vm-operators,dc=corp,dc=example", f"uid=bella,{PEOPLE}"
    tokens = {}
    for name, role in (("olga", "operator"), ("bella", "admin")):
        assert login(desk, name).status == 200
        tokens[name], _ = desk.run(people.add_token(BOSS, name, "ci", (Grant(role),), 90))
    assert desk.run(call.round()) == []

    def may(name: str) -> bool:
        return bool(desk.call("GET", f"{V}/me", token=tokens[name]).json["roles"])

    slapd.stop()
    with pytest.raises(Unreachable):
        desk.run(call.round())
    slapd.start()
    assert may("olga") and may("bella")
    slapd.change(lambda c: c.delete(bella))
    slapd.change(lambda c: c.modify(
        group, {"member": [(MODIFY_DELETE, [f"uid=olga,{PEOPLE}"])]}
    ))  # fmt: skip
    assert desk.run(call.round()) == ["bella", "olga"]
    for name in tokens:
        assert not may(name)
        assert desk.run(people.sessions(name)) == []
        assert desk.run(people.user(name)).grants == ()
    rows, _ = desk.run(desk.manager.repository.read(records.list_audit))
    said = [row.object for row in rows if "no longer there" in row.sentence]
    assert sorted(said) == ["bella", "olga"]
    assert desk.run(call.round()) == ["bella", "olga"]  # and is not told again
    again, _ = desk.run(desk.manager.repository.read(records.list_audit))
    assert len(again) == len(rows)
    slapd.change(lambda c: c.modify(
        group, {"member": [(MODIFY_ADD, [f"uid=olga,{PEOPLE}"])]}
    ))  # fmt: skip
    assert desk.run(call.round()) == ["bella"]
    assert may("olga")
    # another entry of the same name is somebody else, whatever her groups are
    named = {"cn": "Bella", "sn": "bella", "userPassword": WORD}
    slapd.change(lambda c: c.add(bella, "inetOrgPerson", named))
    assert desk.run(call.round()) == ["bella"]


def test_without_a_reader_nobody_is_looked_for(slapd: Slapd) -> None:
    assert Directory(slapd.settings()).looks
    assert not Directory(ways(slapd)["bind as"]).looks
