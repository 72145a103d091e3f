"""The virtual rack: hosts, storage, network and power of a pool on one Linux machine.

Each host is a set of namespaces around a small init; the storage is a real network file system
whose path can be cut; the network is one switch with faults; power is SIGKILL to a whole host.
Nothing here is used by a production pool. It needs root and leaves nothing behind.

    client.py          what the command line and the tests call
    daemon.py          the process that holds a rack        shelf.py   the rack itself
    host.py            one host, seen from outside          boot.py    its PID 1, seen from inside
    net.py             switch and network faults            cgroup.py  freeze and kill
    fileserver.py      storage server                       filemount.py  one host's storage client
    fake_watchdog.py   /dev/watchdog of a host              kernel.py  calls that Python lacks
"""
