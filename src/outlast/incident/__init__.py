"""Incidents: what a host knew and decided, recorded step by step, and decided again elsewhere.

ring     the agent's recording: facts and decisions, bounded, never in the way of a tick
codec    facts, decisions and the core's memory as JSON, and back [pure]
replay   the same core on the recorded facts: the same decisions, or the first that differs
archive  an incident as one file that can be given away, with names masked if wanted
story    an incident as a story for the simulator, as far as it can be told as one
"""
