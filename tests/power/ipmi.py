"""A BMC that speaks IPMI: OpenIPMI's own simulator, with a power button of ours behind it.

What the simulator asks its button for is a shell script's work (ipmi_sim_cmd(5)): the state is a
file. A press waits until `act` has been told of it and has returned, as with sushy.py.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

USER, PASSWORD = "root", "s3cret-bmc"  # IPMI allows 16 characters
KG_KEY = "6b67fe" + 13 * "4b"  # in hexadecimal, of as many bytes as the simulator takes
PROGRAMS = ("ipmi_sim", "ipmitool", "fence_ipmilan")
BUTTON = """\
#!/bin/sh
# MC get|set power [0|1]
cd {folder} || exit 1
echo "$2 $3 $4" >>asked
case "$2 $3" in
"get power") echo "power:$(cat power)" ;;
"set power") [ -e broken ] || {{ echo "$4" >pressed.part; mv pressed.part pressed
             while [ -e pressed ]; do sleep 0.05; done; }} ;;
*) exit 1 ;;
esac
"""
LAN = """\
name "bmc"
set_working_mc 0x20
startlan 1
  addr {address} {port}
  priv_limit admin
  allowed_auths_admin md5
  guid a123456789abcdefa123456789abcdef
  {kg_key}
endlan
chassis_control "{folder}/button 0x20"
user 2 true "{user}" "{password}" admin 10 md5
"""
CONTROLLER = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
mc_enable 0x20
"""
WORDS = {"0": "off", "1": "on"}


def missing() -> str:
    """The program that is not here; "" = all are."""
    return next((program for program in PROGRAMS if shutil.which(program) is None), "")


class IpmiBmc:
    """Runs in a `with`. act: told "off" or "on", as the button is pressed."""

    def __init__(
        self,
        folder: Path,
        address: str = "127.0.0.1",
        act: Callable[[str], object] = str,
        kg_key: str = "",
    ) -> None:
        self.folder, self.address, self._act = folder / "ipmi", address, act
        (self.folder / "state").mkdir(parents=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((address, 0))
            self.port = int(free.getsockname()[1])
        self.power = "on"
        words = {"folder": self.folder, "address": address, "port": self.port, "user": USER,
                 "kg_key": f"bmc_key {kg_key}" if kg_key else ""}  # fmt: skip
        (self.folder / "button").write_text(BUTTON.format(**words))
        (self.folder / "button").chmod(0o755)
        (self.folder / "lan.conf").write_text(LAN.format(**words, password=PASSWORD))
        (self.folder / "controller").write_text(CONTROLLER)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._press, daemon=True)
        self._simulator: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> IpmiBmc:
        self._simulator = subprocess.Popen(
            ["ipmi_sim", "-n", "-c", "lan.conf", "-f", "controller", "-s", "state"],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.lose_power()
        self._thread.join()

    def lose_power(self) -> None:
        """Of the BMC itself."""
        assert self._simulator is not None
        self._simulator.kill()
        self._simulator.wait()

    @property
    def power(self) -> str:
        return WORDS[(self.folder / "power").read_text().strip()]

    @power.setter
    def power(self, to: str) -> None:
        part = self.folder / "power.part"
        part.write_text("1" if to == "on" else "0")
        part.replace(self.folder / "power")

    @property
    def asked(self) -> list[str]:
        """What its button was asked, in order: "get power", "set power 0"."""
        asked = self.folder / "asked"
        return [line.strip() for line in asked.read_text().splitlines()] if asked.exists() else []

    def break_button(self) -> None:
        """It says "done" from now on, and does nothing."""
        (self.folder / "broken").touch()

    def options(self) -> tuple[str, ...]:
        """What a fence agent must be told to reach it; the password is no option."""
        return (f"ip={self.address}", f"ipport={self.port}", f"username={USER}", "lanplus=1",
                "cipher=3")  # fmt: skip

    def _press(self) -> None:
        pressed = self.folder / "pressed"
        while not self._ended.is_set():
            if pressed.exists():
                to = WORDS[pressed.read_text().strip()]
                self._act(to)
                self.power = to
                pressed.unlink()
            time.sleep(0.02)
