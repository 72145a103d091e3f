"""The command line: parses, asks an agent or the storage, prints. It decides nothing.

Rules:
1. stdout carries the answer and nothing else; progress, warnings and errors go to stderr.
2. With --json the answer is one JSON value (a line each for what never ends), stable over versions.
3. An error is one sentence and a hint, its exit code stands in errors.py. Tracebacks only with
   --debug. Ctrl-C ends quietly with 130.
4. Start-up is part of the interface: what is heavy is imported by the command that needs it.
"""
