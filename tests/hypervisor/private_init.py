"""PID 1 of a private mount, PID, network and IPC namespace that holds one libvirtd.

Started by private_libvirtd.py through `unshare`. Everything libvirt keeps (configuration, state,
sockets, logs) is bound to folders under DIR, so the machine's own libvirt is never touched.

Commands, one a line on stdin: `start` (a libvirtd), `kill` (kill -9 it). End of file, also when the
test run dies, ends PID 1 and with it every process in here.
"""

import os
import selectors
import signal
import subprocess
import sys

PLACES = {
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "run": "/run",
}


def settle(home: str) -> None:
    """Make the namespace private and put libvirt's folders in place."""
    for argv in (
        ["mount", "--make-rprivate", "/"],
        ["mount", "-t", "proc", "proc", "/proc"],
        ["mount", "-t", "sysfs", "sysfs", "/sys"],
        ["ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(argv, check=True)
    for name, place in PLACES.items():
        subprocess.run(["mount", "--bind", f"{home}/{name}", place], check=True)


def main() -> None:
    home = sys.argv[1]
    settle(home)
    daemon: subprocess.Popen[bytes] | None = None
    reaper, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    events = selectors.DefaultSelector()
    events.register(0, selectors.EVENT_READ)
    events.register(reaper, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for key, _ in events.select():
            if key.fd == reaper:
                os.read(reaper, 512)
                reap(daemon)
                continue
            orders = os.read(0, 512).split()
            if not orders:
                return
            for order in orders:
                if order == b"start":
                    with open(f"{home}/libvirtd.out", "ab") as out:
                        daemon = subprocess.Popen(
                            ["libvirtd"], stdin=subprocess.DEVNULL, stdout=out, stderr=out
                        )
                elif order == b"kill" and daemon is not None:
                    daemon.kill()
                    daemon.wait()
                    print("killed", flush=True)


def reap(daemon: "subprocess.Popen[bytes] | None") -> None:
    """Collect orphans; the daemon's own end is collected through its Popen."""
    if daemon is not None:
        daemon.poll()
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


if __name__ == "__main__":
    main()
