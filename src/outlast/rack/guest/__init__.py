"""Guests that prove what a pool did with them: pulsar (bare metal, some KiB) and sentinel (Linux).

Both sign their disk with a hash chain (record.h); `outlast.rack.ledger` reads it and judges.
"""
