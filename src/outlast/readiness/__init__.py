"""Could the pool fail over now, what would a failure do, and did it? Judged from an agent's answer.

lights         what is not as it should be, each with its reason and a colour
drills         what a failure would do, whether it may be tried now, whether it went as foreseen
rolling        hosts one after the other: which step of a maintenance is next
appointments   when the next drill of the pool's settings is due
"""
