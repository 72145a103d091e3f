"""The command line of a person, through a manager that runs: logged in, used, logged out."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import socket
import ssl
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from calling import wait
from pretend import RealPool
from process import Process, free_port

from outlast.cli.context import Options
from outlast.cli.main import run
from outlast.manager import uploading
from outlast.manager.ports import Grant

PASSWORD = "a long password of anna"
Server = tuple[Process, RealPool, str]
Outlast = Callable[..., str]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A manager that follows a real pool, and a token of anna's."""
    root = tmp_path_factory.mktemp("login")
    real = RealPool(root)
    made = Process(root / "manager", real=real)
    token = made.user("anna", Grant("admin"))
    made.command("manager", "add-pool", real.url("a"), "--pki", str(real.pki))
    (root / "manager/etc/pki").symlink_to(real.pki)
    made.environment |= {"OUTLAST_RUN": str(root / "none"), "XDG_CONFIG_HOME": str(root / "config")}
    made.start()
    wait(lambda: made.call("GET", f"/api/v1/pools/{real.id}", token=token)[1]["stale"] is False)
    yield made, real, token
    made.kill()
    real.close()


@pytest.fixture
def outlast(
    server: Server, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Outlast]:
    """The command line in this process, of somebody who is no host; logged out at the end."""
    for name, value in server[0].environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("OUTLAST_AGENT", raising=False)

    def call(*arguments: str, typed: str = "", fails: bool = False) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run(list(arguments))
        out, err = capfd.readouterr()
        assert bool(ended.value.code) == fails, err
        assert "Traceback" not in err
        return err if fails else out

    yield call
    call("logout")


@pytest.fixture
def anna(server: Server, outlast: Outlast) -> Outlast:
    """Logged in with her password."""
    made = server[0]
    said = outlast("login", url(made), "--ca", str(made.trusted), "--user", "anna",
                   typed=f"{PASSWORD}\n")  # fmt: skip
    assert "as anna/cli@" in said
    return outlast


def url(made: Process, pool: str = "lab") -> str:
    return f"https://127.0.0.1:{made.port}/{pool}"


def kept(made: Process) -> Path:
    return Path(made.environment["XDG_CONFIG_HOME"]) / "outlast/login.json"


def test_the_same_commands_say_the_same(server: Server, anna: Outlast) -> None:
    _, real, _ = server
    straight = ("--agent", real.url("a"))
    assert "web" in anna("vm", "create", "web", "--memory", "512MiB")
    anna("network", "create", "lan", "--uplink", "eno1", "--vlan", "20")
    for command in (
        ("vm", "list"), ("vm", "show", "web"), ("network", "list"), ("storage", "list"),
        ("--json", "vm", "list"), ("host", "list"),
    ):  # fmt: skip
        assert anna(*command) == anna(*straight, *command), command
    anna("network", "remove", "lan")
    anna("vm", "delete", "web")
    wait(lambda: json.loads(anna("--json", "vm", "list")) == [])
    assert "there is no VM 'web'" in anna("vm", "start", "web", fails=True)


def test_images_and_templates_go_the_same_way(server: Server, anna: Outlast) -> None:
    _, real, _ = server
    straight = ("--agent", real.url("a"))
    (real.root / "import").mkdir()
    (real.root / "import/deb.raw").write_bytes(os.urandom(1 << 16))
    said = anna("image", "import", "deb", "deb.raw", "--limit", "none")
    assert said.startswith("deb is imported: 1 disk, 0 MiB; SHA-256 of its source: ")
    anna("template", "create", "small", "--image", "deb", "--memory", "64MiB")
    fixed = ("--disk", "3MiB", "--address", "10.0.0.[11-12]/24")
    said = anna("template", "deploy", "small", "web-[1-2]", *fixed)
    assert said == "2 VMs are made of small\n"
    seed = real.a.read_vm("web-2").value.spec.disks[1].path  # type: ignore[union-attr]
    assert b"10.0.0.12/24" in Path(seed).read_bytes()
    for command in (
        ("image", "list"), ("image", "show", "deb"), ("template", "list"),
        ("--json", "image", "list"), ("--json", "template", "list"),
    ):  # fmt: skip
        assert anna(*command) == anna(*straight, *command), command
    assert "lie over it" in anna("template", "remove", "small", fails=True)
    for vm in ("web-1", "web-2"):
        anna("vm", "delete", vm, "--with-disks")
    assert anna("template", "remove", "small") == "the template small is deleted\n"
    assert anna("image", "remove", "deb") == "the image deb is deleted\n"
    assert "no images yet" in anna("image", "list")


def test_what_is_kept_is_for_its_owner_and_goes_to_one_manager(
    server: Server, anna: Outlast
) -> None:
    made = server[0]
    known = json.loads(kept(made).read_text())
    assert stat.S_IMODE(kept(made).stat().st_mode) == 0o600
    assert stat.S_IMODE(kept(made).parent.stat().st_mode) == 0o700
    other = f"https://127.0.0.1:{free_port()}/lab"
    refused = anna("--manager", other, "vm", "list", fails=True)
    assert "nobody is logged in at" in refused
    away = anna("--manager", "berlin", "vm", "list", fails=True)
    assert "berlin" in away
    both = anna("--manager", "lab", "--agent", other, "vm", "list", fails=True)
    assert "two ways" in both
    assert known["token"] not in refused + away + both + made.log


def test_the_login_is_read_once(server: Server, anna: Outlast) -> None:
    """However often a command asks where it leads."""
    chosen, file = Options(), kept(server[0])
    assert chosen.afar
    file.rename(file.with_suffix(".away"))
    assert chosen.client().vms() == []
    file.with_suffix(".away").rename(file)


def test_what_the_manager_does_not_pass_on_says_where_to_go(server: Server, anna: Outlast) -> None:
    made, real, token = server
    said = anna("vm", "console", "web", fails=True)
    assert f"{url(made)[:-4]}/pools/lab/vms/web/console" in said
    at = f"/api/v1/pools/{real.id}/agent/v1/local"
    error = made.call("GET", at, token=token)[1]["error"]
    assert "does not pass on GET /v1/local" in error["sentence"]
    assert "--agent https://HOST:7791" in error["hint"]


def test_a_logged_out_token_counts_no_more(server: Server, outlast: Outlast) -> None:
    made, _, _ = server
    outlast("login", url(made), "--ca", str(made.trusted), "--user", "anna",
                 typed=f"{PASSWORD}\n")  # fmt: skip
    token = json.loads(kept(made).read_text())["token"]
    assert made.call("GET", "/api/v1/me", token=token)[0] == 200
    outlast("logout")
    assert made.call("GET", "/api/v1/me", token=token)[0] == 401
    assert not kept(made).exists()
    assert "no agent answers" in outlast("vm", "list", fails=True)
    assert outlast("logout").strip() == "nobody is logged in"


def test_bad_logins_leave_nothing(server: Server, outlast: Outlast) -> None:
    made, _, token = server
    known = ("login", url(made), "--ca", str(made.trusted))
    file = made.root / "token"
    file.write_text(f"{token}x\n")
    for arguments, typed, said in (
        (("login", url(made)), "", "SHA-256"),
        ((*known, "--user", "anna"), "wrong\n", "wrong"),
        ((*known, "--token-file", str(file)), "", "token"),
        (("login", "http://127.0.0.1/lab"), "", "names no manager"),
        (("login", f"https://127.0.0.1:{free_port()}/lab"), "", "no manager answers"),
        (("login", url(made), "--ca", str(file)), "", "certificate"),
    ):  # fmt: skip
        assert said in outlast(*arguments, typed=typed, fails=True), arguments
        assert not kept(made).exists()


def test_a_token_of_ones_own_is_left_when_the_login_ends(server: Server, outlast: Outlast) -> None:
    made, _, token = server
    said = outlast("login", url(made, ""), "--ca", str(made.trusted), "--token-file", "-",
                        typed=token)  # fmt: skip
    assert "to the pool lab" in said, "there is only one"
    outlast("logout")
    assert made.call("GET", "/api/v1/me", token=token)[0] == 200


def test_without_the_manager_the_way_to_agents_is_said(server: Server, anna: Outlast) -> None:
    made, real, _ = server
    made.stop()
    try:
        gone = anna("vm", "list", fails=True)
        assert "no manager answers" in gone
        assert "pools work without their manager" in gone
        assert anna("--agent", real.url("a"), "vm", "list")
    finally:
        made.start()


def test_an_upload_that_is_cut_off_anywhere_is_no_image_and_goes_on(
    server: Server, anna: Outlast, tmp_path: Path
) -> None:
    """The connection is lost in the head, at its end, and at several bytes of the body."""
    made, real, token = server
    size, at = uploading.PIECE + 300_001, f"/api/v1/pools/{real.id}/images/cut/upload"
    data = os.urandom(size)
    wish = {"size_bytes": size, "sha256": hashlib.sha256(data).hexdigest()}
    head = (
        f"PUT {at}?offset=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
    ).encode()
    before = len(made.log)
    for sent in (7, len(head) - 1, len(head), len(head) + 1, len(head) + uploading.PIECE + 5):
        assert made.call("POST", at, wish, token)[0] == 200
        with cut_at_end(made) as line:
            line.sendall((head + data)[:sent])
            if sent > len(head) + uploading.PIECE:
                wait(lambda: got(made, at, wish, token) == uploading.PIECE, 60)
        assert made.call("GET", f"/api/v1/pools/{real.id}/images", token=token)[1]["total"] == 0
        status, said = made.call("POST", f"{at}/import", {}, token)
        assert (status, said["error"]["code"]) == (409, "conflict")
        assert said["error"]["sentence"].endswith("bytes of 'cut' have not come yet")
    tasks = made.call("GET", "/api/v1/tasks?object=cut", token=token)[1]["items"]
    assert len(tasks) == 5 and all(task["failed"] for task in tasks)
    assert tasks[0]["sentence"] == said["error"]["sentence"]
    assert "bug" not in made.log[before:] and "ERROR" not in made.log[before:], made.log[before:]
    file = tmp_path / "cut.raw"
    file.write_bytes(data)
    assert "cut is imported" in anna("image", "upload", "cut", str(file), "--limit", "none")
    shown = json.loads(anna("--json", "image", "show", "cut"))
    assert shown["sha256"] == wish["sha256"]
    anna("image", "remove", "cut")


@contextlib.contextmanager
def cut_at_end(made: Process) -> Iterator[ssl.SSLSocket]:
    """A connection that ends without a word of farewell."""
    connection = made.connect()
    connection.connect()
    assert isinstance(connection.sock, ssl.SSLSocket)
    yield connection.sock
    linger = struct.pack("ii", 1, 0)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def got(made: Process, at: str, wish: dict[str, object], token: str) -> object:
    return made.call("POST", at, wish, token)[1]["got_bytes"]
