"""The manager: one place to see and steer many pools. It decides nothing about life and death.

Pools work while it is down; everything it shows comes from the pools' own agents, and every wish it
passes on is one that the command line could pass on without it.
"""
