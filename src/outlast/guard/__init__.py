"""The small processes that outlive the agent: the guard and the pulse.

The guard is the last word on what runs here. It holds one *term* and its deadline D. While the
term is open and D is ahead, admitted VMs may start; past D it freezes and kills every process of
its part of the cgroup tree, and if one does not die, or the storage may still hold queued writes
of a killed one, the host is reset. It trusts nobody: not the agent, not libvirt, not the pulse.

Files, in reading order:
    facts.py      the values the core is told, and the reading of requests (pure)
    states.py     its states, what moves them, and the numbered rules
    core.py       what the guard decides (pure)
    requests.py   which request goes where in it (pure)
    killer.py     the cgroup subtree and the pidfds of its members
    watchdog.py   the devices that reset a host which no longer answers, and the policy for them
    state.py      what a guard that was killed hands to the next one
    wire.py       the unix socket: one JSON object a line
    __main__.py   the loop that ties them together: `python -m outlast.guard`
    client.py     how pulse and agent speak to the guard
    emulator.py   the wrapper in front of QEMU, so that libvirt cannot start a VM past the guard
"""
