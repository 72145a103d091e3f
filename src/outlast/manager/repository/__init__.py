"""The manager's memory: people, tokens, tasks, audit, history. The only SQL of the project."""
