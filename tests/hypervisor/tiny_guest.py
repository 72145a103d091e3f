"""A 512-byte system for driver tests: boots from its disk in 0.1 s, needs 8 MiB.

Says "hello" on the first serial port, then "tick" twice a second, echoes what it receives, and
powers off (after "bye") when the power button is pressed. With `writes`, each tick first writes
32 KiB, 128 KiB further on each time, and says "disk error" when the write fails.

The code below is this program, 16 bit, loaded at 0x7c00:
    set up segments and stack; enable the power button: word 0x100 to port 0x602
    print "hello"; note the BIOS tick counter (0x46c)
    loop:  power button pressed (bit 0 of port 0x601)? -> print "bye", word 0x2000 to port 0x604
           byte on COM1 (bit 0 of port 0x3fd)? -> send it back, note the counter, loop
           fewer than 9 ticks since the last note? -> hlt, loop
           if byte 0x7dfd is set: int 13h/43h with the packet at 0x7ccc (lba += 0x100)
           print "tick", or "disk error" if that failed; loop
"""

from __future__ import annotations

from pathlib import Path

_CODE = bytes.fromhex(
    "fa31c08ed88ec08ed0bc007cea117c0000fbba0206b80001efbeaa7ce86d0031"
    "ff8b1e6c04ba0006edf6c401754fbafd03eca801740dbaf803ece85a008b1e6c"
    "04ebe2a16c0429d883f80972258b1e6c04803efd7d007412b80043b280becc7c"
    "cd1372118106d47c0001beb27ce81c00ebb3f4ebb0beb97ce81100eba8bec67c"
    "e80900ba0406b80020effaf4ac84c07405e80300ebf6c35288c4bafd03eca820"
    "74fbbaf80388e0ee5ac3"
)
_TEXT = b"hello\r\n\0tick\r\n\0disk error\r\n\0bye\r\n\0"
_PACKET = b"\x10\0\x40\0\0\x7c\0\0\0\1\0\0\0\0\0\0"  # 64 sectors from 0x7c00 to sector 0x100
SIZE = 2 << 20
# another system: says "h" on the first serial port, finds the watchdog (PCI 8086:25ab, by ports
# 0xcf8 and 0xcfc), sets it to its fast clock (word 4 to its register 0x60: 2 s in all), arms it
# (byte 2 to 0x68) and hangs
_HANGS = bytes.fromhex(
    "fabaf803b068ee6631db6689d866c1e00b660d000000806689c1baf80c66efbafc0c66ed663d"
    "8680ab2574084383fb2072d8eb2167668d4160baf80c66efbafc0cb80400ef67"
    "668d4168baf80c66efbafc0cb002eef4ebfd"
)


def write_disk(path: Path, *, writes: bool = False, size: int = SIZE) -> None:
    """A sparse raw disk with the system on it."""
    sector = (_CODE + _TEXT + _PACKET).ljust(509, b"\0") + bytes([writes]) + b"\x55\xaa"
    assert len(sector) == 512
    with path.open("wb") as disk:
        disk.write(sector)
        disk.truncate(size)


def write_hanging_disk(path: Path) -> None:
    """A system that arms its watchdog and hangs."""
    with path.open("wb") as disk:
        disk.write(_HANGS.ljust(510, b"\0") + b"\x55\xaa")
        disk.truncate(SIZE)
