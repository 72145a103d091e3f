"""Where VMs fit, what a failure leaves, which moves pay. Pure: no network, no time, no leases.

    picture.py    the pool as values        snapshot.py  the picture as JSON, read strictly
    layout.py     the picture, indexed      fit.py       hard rules, each with a sentence
    choose.py     the best host for one VM  spare.py     what is left when hosts die
    plan.py       moves, and their replay   evacuate.py  empty a host; empty hosts for power-off
    balance.py    few moves, worth it       refuge.py    N-1 kept while VMs move
    aim.py        an even end state         route.py     the moves that lead to it

All of it can be imported without any service: `read(text)` gives a `Picture`; every question is a
function of a picture.
"""
