"""The program on every host: the only place that holds thinking and hands.

One tick, always the same, never blocking: gather facts, let the pool core decide, give the decision
to the hands. Slow work runs in the hands' own threads; the next tick sees its outcome as a fact.
"""
