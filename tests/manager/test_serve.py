"""The manager as people run it: set up by commands, https, a graceful end; trouble at the start."""

from __future__ import annotations

import asyncio
import http.client
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from calling import wait
from pretend import RealPool
from process import Process

from outlast.errors import OutlastError
from outlast.manager.config import Config, Place, make_certificate
from outlast.manager.serve import serve
from outlast.wire import seal

V = "/api/v1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, RealPool, str]]:
    """A manager that runs and follows a real pool, and an administrator's token."""
    root = tmp_path_factory.mktemp("serve")
    real = RealPool(root)
    made = Process(root / "manager")
    made.command("manager", "user", "add", "anna", "--role", "admin", typed="a good long one\n")
    token = made.command("manager", "token", "add", "anna", "ci", "--role", "admin").strip()
    added = made.command("manager", "add-pool", real.url("a"), "--pki", str(real.pki))
    assert real.id in added
    made.start()
    yield made, real, token
    made.kill()
    real.close()


def test_what_init_makes_is_for_its_owner(server: tuple[Process, RealPool, str]) -> None:
    made, real, _ = server
    private = [
        made.root / "etc/manager.json", made.root / "var/manager/setup-code",
        made.root / "var/manager/manager.db", made.root / "var/manager/tls/cert.key",
        made.root / "etc/manager/pools" / real.id / "cert.key",
    ]  # fmt: skip
    assert [stat.S_IMODE(p.stat().st_mode) for p in private] == [0o600] * 5
    assert len(made.init["fingerprint"].split(":")) == 32
    assert made.init["code"] == private[1].read_text().strip()
    assert made.init["code"] not in made.log


def test_it_serves_https_and_nothing_else(server: tuple[Process, RealPool, str]) -> None:
    made, real, token = server
    wait(lambda: made.call("GET", f"{V}/pools/{real.id}", token=token)[1]["stale"] is False)
    assert made.call("GET", f"{V}/pools")[0] == 401
    plain = http.client.HTTPConnection("127.0.0.1", made.port, timeout=5)
    with pytest.raises((OSError, http.client.HTTPException)):
        plain.request("GET", f"{V}/health")
        plain.getresponse()
    stranger = http.client.HTTPSConnection(
        "127.0.0.1", made.port, timeout=5, context=ssl.create_default_context()
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", f"{V}/health")


def test_the_commands_for_people(server: tuple[Process, RealPool, str]) -> None:
    made, real, _ = server
    role = f"operator@{real.id}/web"
    made.command("manager", "user", "add", "bert", "--role", role, typed="another long one\n")
    assert f"bert  {role}" in made.command("manager", "user", "list")
    made.command("manager", "user", "roles", "bert", "--role", "viewer")
    login = {"name": "bert", "password": "another long one"}
    assert made.call("POST", f"{V}/login", login)[0] == 200
    made.command("manager", "user", "password", "bert", typed="the third long one\n")
    assert made.call("POST", f"{V}/login", login)[0] == 403
    audit = made.call("GET", f"{V}/audit?action=pool-add", token=server[2])[1]["items"]
    assert [(a["who"], a["object"], a["after"]) for a in audit] == [
        ("root", real.id, real.url("a"))
    ]
    too_much = made.command("manager", "token", "add", "bert", "x", "--role", "admin", fails=True)
    assert "bert has no role admin" in too_much
    assert "king" in made.command("manager", "user", "roles", "bert", "--role", "king", fails=True)
    assert "no administrator" in made.command("manager", "user", "remove", "anna", fails=True)
    made.command("manager", "user", "remove", "bert")
    assert real.id in made.command("manager", "pools")


def test_it_serves_with_a_certificate_of_the_pool(tmp_path: Path) -> None:
    """Whoever trusts the pool trusts it; settings are told and changed by commands."""
    authority, pki = tmp_path / "authority", tmp_path / "pki"
    authority.mkdir()
    seal.create_authority(authority)
    names = ["m1.example", "127.0.0.1"]
    key, cert = seal.issue_host(authority, "m1", "u", (), "manager", names=names)
    seal.install(pki, authority, key, cert)
    made = Process(tmp_path / "manager")
    bad = made.command("manager", "init", "--pki", str(authority), fails=True)
    assert "no certificate can be taken" in bad
    made.command("manager", "init", "--pki", str(pki))
    assert stat.S_IMODE((made.root / "var/manager/tls/cert.key").stat().st_mode) == 0o600
    made.command("manager", "set", "--events-days", "12")
    assert "events_days    12  (database)" in made.command("manager", "settings")
    assert "not between 1" in made.command("manager", "set", "--tasks-days", "0", fails=True)
    made.trusted = authority / "ca.pem"
    made.start()
    assert made.call("GET", f"{V}/health")[0] == 200
    made.kill()


def test_a_second_one_does_not_start_beside_it(server: tuple[Process, RealPool, str]) -> None:
    made, _, _ = server
    said = made.command("manager", "run", fails=True)
    assert "cannot listen" in said and "hint:" in said


def test_it_ends_gracefully_with_open_streams_and_comes_back(
    server: tuple[Process, RealPool, str],
) -> None:
    made, _real, token = server
    heard: list[list[str]] = [[] for _ in range(150)]  # more than the server takes by default
    ended = threading.Semaphore(0)

    def follow(lines: list[str]) -> None:
        for line in made.stream(token):
            lines.append(line)
        ended.release()

    for lines in heard:
        threading.Thread(target=follow, args=(lines,), daemon=True).start()
    wait(lambda: all(heard))
    begun = time.monotonic()
    assert made.stop() == 0
    assert time.monotonic() - begun < 10
    assert all(ended.acquire(timeout=2) for _ in heard)
    assert "Traceback" not in made.log and "ERROR" not in made.log, made.log
    made.start()
    assert made.call("GET", f"{V}/me", token=token)[0] == 200


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('{"listen": "nowhere"}', "no address to listen on"),
        ('{"listem": "127.0.0.1:1"}', "there is no field 'listem'"),
        ('{"events_days": 0}', "events_days"),
        ("{", "manager.json"),
        ('{"database": "mysql://x/y"}', "none that can be used"),
        ('{"database": "postgresql://outlast@127.0.0.1:1/x"}', "the manager's database at"),
        ('{"certificate": "/none"}', "a certificate needs its key"),
        ('{"certificate": "/none", "key": "/none"}', "there is no file /none"),
    ],
)
def test_trouble_at_the_start_is_a_sentence(tmp_path: Path, config: str, said: str) -> None:
    place = Place(tmp_path / "etc", tmp_path / "var")
    make_certificate(place.var / "tls", ["127.0.0.1"])
    place.write(Config())
    place.file.write_text(config)
    with pytest.raises(OutlastError, match=said) as caught:
        asyncio.run(serve(place, place.config()))
    assert caught.value.sentence


def test_without_init_it_says_what_to_do(tmp_path: Path) -> None:
    place = Place(tmp_path / "etc", tmp_path / "var")
    with pytest.raises(OutlastError) as caught:
        asyncio.run(serve(place, place.config()))
    assert caught.value.hint == "outlast manager init"
