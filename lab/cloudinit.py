"""Seeds for cloud-init as Debian takes them, and what QEMU's agent inside does for copies.

One host of a rack and its real libvirt, not the lab's machines: in those, QEMU would translate a
QEMU. The disk is lab/cloud.py's; every VM is made, copied and brought back by `outlast` commands.

Rules:
1. What came of a seed is asked inside, by ssh: with its key, at its address, as its user. Where one
   of them was not taken, nothing can be asked.
2. How often cloud-init did its work is told by a line that each time adds to a file on the disk.
3. Translated processors boot in minutes: waits are generous, and the pool has patient beats.
"""

from __future__ import annotations

import json
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from lab.cloud import disk
from lab.findings import Findings
from lab.root import run
from outlast.errors import OutlastError
from outlast.rack.lab import POOL, Lab

MEMORY = "3GiB"  # of its host: two VMs run at a time
HOST, BRIDGE, GATEWAY = "a", "inside", "10.88.0.1"
BOOT_S, ASK_S, TYPED_S = 1500.0, 120.0, 1500.0
GIVEN = f"{POOL}/given"
PUBLIC = f"{GIVEN}/key.pub"
COUNT = "/var/lib/ran"
USER_DATA = f"""#cloud-config
users:
  - default
write_files:
  - path: /etc/motto
    content: outlast
runcmd:
  - cat /var/lib/cloud/data/instance-id >>{COUNT}
"""
NETWORK = """\
version: 2
ethernets:
  card: {match: {name: "e*"}, addresses: [10.88.0.12/24], mtu: 1400}
"""
INSTANCE, BOOT = "cat /var/lib/cloud/data/instance-id", "cat /proc/sys/kernel/random/boot_id"
HOST_KEY = "cat /etc/ssh/ssh_host_ed25519_key.pub"
NOTE, VAULT = "/home/debian/note", "/var/lib/outlast/vault"


@dataclass(frozen=True, slots=True)
class Inside:
    """A VM as its users meet it."""

    lab: Lab
    user: str
    address: str

    def ask(self, command: str) -> str:
        """What it answers. Raises OutlastError."""
        done = self.lab.rack.exec(HOST, [
            "ssh", "-i", f"{GIVEN}/key", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20",
            f"{self.user}@{self.address}", command,
        ], timeout_s=ASK_S)  # fmt: skip
        if done.returncode:
            raise OutlastError(
                f"{self.address}: '{command}': {(done.stderr or done.stdout)[-300:]}"
            )
        return done.stdout.strip()

    def booted(self, found: Findings, former: str = "") -> str:
        """The id of its boot, after the one before, when cloud-init has ended. Raises TimedOut."""
        self.lab.wait(lambda: self.ask(BOOT) != former, BOOT_S, f"{self.address} has not booted")
        self.lab.wait(lambda: not self.says().endswith("run"), BOOT_S, "it has not begun")
        self.lab.wait(lambda: not self.says().endswith("running"), BOOT_S, "it does not end")
        same(found, self.ask("hostname"), "cloud-init", self.says(), "status: done")
        return self.ask(BOOT)

    def says(self) -> str:
        return self.ask("cloud-init status || true")


def ground(folder: Path) -> Lab:
    return Lab(folder / "rack")


def trial(lab: Lab, found: Findings) -> None:
    lab.begin(hosts=1, preset="patient", leashed=True, memory=MEMORY)
    given(lab)
    typed(lab, found, "network", "create", BRIDGE)
    there = f"ip addr add {GATEWAY}/24 dev {BRIDGE} && ip link set {BRIDGE} up"
    lab.wait(lambda: not lab.rack.exec(HOST, ["sh", "-c", there]).returncode, 60, "no bridge")
    web, db = Inside(lab, "anna", "10.88.0.11"), Inside(lab, "debian", "10.88.0.12")
    made(lab, found)
    first = {vm: vm.booted(found) for vm in (web, db)}
    found.add("system", db.ask("uname -r; dpkg-query -W -f '${Package} ${Version}\\n' cloud-init "
              "qemu-guest-agent").replace("\n", ", "))  # fmt: skip
    by_words(found, web)
    by_files(found, db)
    before = {vm: vm.ask(f"{INSTANCE}; {HOST_KEY}") for vm in (web, db)}
    at_rest(lab, found, db)
    lab.rack.exec(HOST, ["sh", "-c", f"mkdir -p {VAULT}"])
    again(lab, found, web, db, first)
    for name, vm in (("web, rebooted by itself", web), ("db, gone back to its snapshot", db)):
        same(found, name, "instance and host keys as before", vm.ask(f"{INSTANCE}; {HOST_KEY}"),
             before[vm])  # fmt: skip
    same(found, "db", "cloud-init ran its commands once", db.ask(f"wc -l <{COUNT}"), "1")
    copied(lab, found, web, db)


def given(lab: Lab) -> None:
    """What a host needs, where it can see it."""
    place = lab.pool_dir / "given"
    place.mkdir()
    shutil.copy(disk(), place)
    (place / "user-data").write_text(USER_DATA)
    (place / "network-config").write_text(NETWORK)
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "anna", "-f", str(place / "key"))


def made(lab: Lab, found: Findings) -> None:
    """Two VMs of one template: one by words of the command line, one by files."""
    typed(lab, found, "image", "import", "debian-12", f"{GIVEN}/disk.qcow2", "--limit", "none")
    typed(lab, found, "template", "create", "small", "--image", "debian-12",
          "--memory", "448MiB", "--network", BRIDGE)  # fmt: skip
    deploy = ("template", "deploy", "small")
    typed(lab, found, *deploy, "web", "--disk", "3GiB", "--user", "anna", "--ssh-key", PUBLIC,
          "--address", "10.88.0.11/24", "--gateway", GATEWAY, "--dns", GATEWAY)  # fmt: skip
    typed(lab, found, *deploy, "db", "--ssh-key", PUBLIC, "--user-data",
          f"{GIVEN}/user-data", "--network-config", f"{GIVEN}/network-config")  # fmt: skip
    typed(lab, found, "vm", "start", "web", "db")


def by_words(found: Findings, web: Inside) -> None:
    same(found, "web", "host name", web.ask("hostname"), "web")
    same(found, "web", "its user has sudo", web.ask("sudo -n id -un"), "root")
    same(found, "web", "its user has no password", web.ask("sudo passwd -S anna").split()[1], "L")
    same(found, "web", "address", web.ask("ip -4 -br addr show eth0").split()[2], "10.88.0.11/24")
    same(found, "web", "way out", web.ask("ip -4 route show default").split()[2], GATEWAY)
    same(found, "web", "name server", web.ask("resolvectl dns eth0").split()[-1], GATEWAY)
    size = int(web.ask("df --output=size -m / | tail -n 1"))
    found.add("web: its file system has grown to the disk of 3 GiB", f"{size} MiB", size > 2600)


def by_files(found: Findings, db: Inside) -> None:
    same(found, "db", "host name", db.ask("hostname"), "db")
    same(found, "db", "write_files", db.ask("cat /etc/motto"), "outlast")
    same(found, "db", "runcmd", db.ask(f"cat {COUNT}"), db.ask(INSTANCE))
    same(found, "db", "network-config", db.ask("cat /sys/class/net/eth0/mtu"), "1400")


def at_rest(lab: Lab, found: Findings, db: Inside) -> None:
    """What was written just before is in the copy: nobody but a freeze has synced it."""
    db.ask(f"echo kept >{NOTE}")
    typed(lab, found, "vm", "snapshot", "create", "db", "rest", "--quiesce", "yes")
    db.ask(f"rm {NOTE}")
    asked = db.ask("sudo journalctl -b -u qemu-guest-agent | grep -c guest-fsfreeze")
    found.add("db: QEMU's agent was asked for a freeze so often", asked, int(asked) >= 1)


def again(
    lab: Lab, found: Findings, web: Inside, db: Inside, first: dict[Inside, str]
) -> None:  # fmt: skip
    """Both boot once more: the one by itself, the other from its snapshot."""
    web.ask("sudo systemd-run --on-active=1 systemctl reboot")
    typed(lab, found, "vm", "stop", "db", "--timeout", "900")
    typed(lab, found, "vm", "snapshot", "revert", "db", "rest")
    typed(lab, found, "vm", "start", "db")
    for vm in (web, db):
        vm.booted(found, first[vm])
    same(found, "db", "what was deleted after the snapshot is back", db.ask(f"cat {NOTE}"), "kept")


def copied(lab: Lab, found: Findings, web: Inside, db: Inside) -> None:
    """A template of `web` becomes another instance; a scheduled backup of `db` stays the same."""
    web_was, db_was = web.ask(f"{INSTANCE}; {HOST_KEY}"), db.ask(f"{INSTANCE}; {HOST_KEY}")
    typed(lab, found, "template", "create", "golden", "--from", "web", "--quiesce", "yes",
          "--limit", "none")  # fmt: skip
    db.ask(f"echo scheduled >>{NOTE}")
    at = time.strftime("%H:%M", time.localtime(time.time() + 90))
    typed(lab, found, "vm", "schedule", "set", "db", "--to", VAULT, "--at", at, "--quiesce", "yes")
    folder = scheduled(lab, found)
    typed(lab, found, "vm", "stop", "web", "db", "--timeout", "900")
    typed(lab, found, "vm", "restore", folder, "--as", "db-again", "--limit", "none")
    typed(lab, found, "template", "deploy", "golden", "web-2", "--user", "carl",
          "--ssh-key", PUBLIC, "--address", "10.88.0.21/24")  # fmt: skip
    typed(lab, found, "vm", "start", "web-2", "db-again")
    other = Inside(lab, "carl", "10.88.0.21")
    other.booted(found)
    same(found, "web-2, of the template of web", "host name", other.ask("hostname"), "web-2")
    its = other.ask(f"{INSTANCE}; {HOST_KEY}")
    shared = set(its.splitlines()) & set(web_was.splitlines())
    found.add("web-2: another instance, other host keys", its.splitlines()[0], not shared)
    db.booted(found)
    same(found, "db-again, restored", "instance and host keys of db",
         db.ask(f"{INSTANCE}; {HOST_KEY}"), db_was)  # fmt: skip
    same(found, "db-again", "cloud-init did not run again", db.ask(f"wc -l <{COUNT}"), "1")
    same(found, "db-again", "what was written before the backup", db.ask(f"cat {NOTE}"),
         "kept\nscheduled")  # fmt: skip
    typed(lab, found, "vm", "snapshot", "create", "db-again", "rest", "--quiesce", "yes")


def scheduled(lab: Lab, found: Findings) -> str:
    """The folder of the backup that the pool makes by itself."""

    def folders() -> list[str]:
        return lab.rack.exec(HOST, ["sh", "-c", f"ls -d {VAULT}/db-*"]).stdout.split()

    took = lab.wait(lambda: bool(folders()), BOOT_S, "the pool makes no backup")
    (folder,) = folders()
    told = json.loads(lab.rack.exec(HOST, ["cat", f"{folder}/vm.json"]).stdout)
    found.add("db: backed up by its schedule, at rest", f"after {took:.0f} s", told["quiesced"])
    return folder


def typed(lab: Lab, found: Findings, *words: str) -> None:
    began = time.monotonic()
    said = lab.outlast(HOST, *words, timeout_s=TYPED_S).strip()
    line = f"{HOST}$ outlast {shlex.join(words)}"
    found.add(line, f"{time.monotonic() - began:.0f} s\n{said[-600:]}")


def same(found: Findings, vm: str, what: str, seen: str, wanted: str) -> None:
    more = "" if seen == wanted else f", not {wanted}"
    found.add(f"{vm}: {what}", f"{seen.splitlines()[0] if seen else 'nothing'}{more}", not more)
