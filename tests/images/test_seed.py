"""Seeds for cloud-init, read back as a system would."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pycdlib
import pytest

from outlast.errors import InvalidInput, NotFound
from outlast.images.seed import Seed, files_of, keys_of, user_data_of, write

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 me@home"


def read_back(path: Path) -> dict[str, bytes]:
    iso = pycdlib.PyCdlib()
    iso.open(str(path))
    found = {}
    for child in iso.list_children(rr_path="/"):
        if child is not None and child.is_file():
            out = io.BytesIO()
            name = child.rock_ridge.name().decode()
            iso.get_file_from_iso_fp(out, rr_path=f"/{name}")
            found[name] = out.getvalue()
    iso.close()
    return found


def test_a_seed_is_what_cloud_init_looks_for(tmp_path: Path) -> None:
    seed = Seed(
        "web-01", "i-1", (KEY,), "ops", address="10.0.0.11/24", gateway="10.0.0.1",
        dns=("10.0.0.2",),
    )  # fmt: skip
    path = tmp_path / "seed.iso"
    write(path, seed)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size % 4096 == 0
    said = subprocess.run(["blkid", "-o", "export", path], capture_output=True, text=True).stdout
    assert "LABEL=cidata" in said
    assert "TYPE=iso9660" in said
    files = read_back(path)
    assert files == files_of(seed)
    assert json.loads(files["meta-data"]) == {
        "instance-id": "i-1", "local-hostname": "web-01", "public-keys": [KEY],
    }  # fmt: skip
    head, _, rest = files["user-data"].partition(b"\n")
    assert head == b"#cloud-config"
    (default, account) = json.loads(rest)["users"]
    assert (default, account["name"], account["ssh_authorized_keys"]) == ("default", "ops", [KEY])
    card = json.loads(files["network-config"])["ethernets"]["nic0"]
    assert card["addresses"] == ["10.0.0.11/24"]
    assert card["routes"] == [{"to": "0.0.0.0/0", "via": "10.0.0.1"}]
    with pytest.raises(FileExistsError):
        write(path, seed)


def test_without_an_address_the_network_is_the_images_own() -> None:
    assert sorted(files_of(Seed("web", "i"))) == ["meta-data", "user-data"]


def test_files_of_ones_own_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "u").write_text("#cloud-config\npackages: [nginx]\n")
    seed = Seed("web", "i", user_data=user_data_of(tmp_path / "u"), network="version: 2\n")
    files = files_of(seed)
    assert files["user-data"] == b"#cloud-config\npackages: [nginx]\n"
    assert files["network-config"] == b"version: 2\n"


@pytest.mark.parametrize(
    "seed",
    [
        Seed("web", "i", address="10.0.0.300/24"),
        Seed("web", "i", address="10.0.0.3"),
        Seed("web", "i", gateway="10.0.0.1"),
        Seed("web", "i", address="10.0.0.3/24", dns=("dns",)),
        Seed("web", "i", user="Root Of All"),
    ],
)
def test_what_a_seed_must_not_say(seed: Seed) -> None:
    with pytest.raises(InvalidInput):
        files_of(seed)


def test_keys_come_as_they_are_or_in_files_and_are_public(tmp_path: Path) -> None:
    assert keys_of(KEY) == (KEY,)
    (tmp_path / "k.pub").write_text(f"# mine\n{KEY}\n\n{KEY}2\n")
    assert keys_of(str(tmp_path / "k.pub")) == (KEY, f"{KEY}2")
    (tmp_path / "k").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    with pytest.raises(InvalidInput, match="is a private key") as error:
        keys_of(str(tmp_path / "k"))
    assert error.value.hint.endswith("k.pub")
    with pytest.raises(NotFound):
        keys_of(str(tmp_path / "none"))
    (tmp_path / "u").write_text("packages: [nginx]\n")
    with pytest.raises(InvalidInput, match="cloud-init would ignore it"):
        user_data_of(tmp_path / "u")
