"""The story of a pool, as each of its hosts tells it to itself at every tick.

Every host writes a small block on the shared storage and reads everybody's (the pulse does). As
long as its writes are confirmed, its guard lets VMs run; when they are not, the guard ends them.
So a block that has not changed for long enough proves that its host runs nothing any more, and a
timer alone never does (silence). Hosts that are in are listed in a view; views form one chain, each
the successor of the one before, whoever was fastest (membership). When links break, the best set
of hosts stays (links). What proves a term's death is counted on one hand (proof).

A VM belongs to the host that its lease names. A host starts a VM only when it SEES its lease held,
and frees it only when it SEES the VM gone (hosting). The view names a master: it compares what is
wanted with what is held and writes orders (plan); placement says where. The orders, like all that
lasts, are registers on the storage, so a new master needs nothing of the old one.

Read on: facts (what is known), core (one step), decision (what is to be done, in order of duty),
journal (every note that can be uttered), invariants (what must never be seen).
"""
