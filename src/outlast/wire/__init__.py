"""What goes over the network: the heartbeat packet, and the agent's API.

Rules of this room:
1. It imports the ground (model, errors) and nothing else of outlast.
2. `beat` is pure and uses only the standard library, for the pulse runs without anything else.
"""
