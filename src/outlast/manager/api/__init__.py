"""The manager's REST API, version 1, below /api/v1: routes only; they check, ask a port, answer."""
