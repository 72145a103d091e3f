#!/usr/bin/env bash
# Runs a command as root: as it is when we are root, else through sudo with the environment kept.
# Nothing that root writes into the checkout may be in a user's way later, so caches are kept
# nowhere, or where PYTHONPYCACHEPREFIX says.
set -euo pipefail
[ $# -gt 0 ] || { echo "usage: scripts/as-root.sh COMMAND ..." >&2; exit 2; }
if [ "$(id -u)" = 0 ]; then
  exec "$@"
fi
command -v sudo >/dev/null || {
  echo "the rack needs root (namespaces, mounts) and there is no sudo: run this as root" >&2
  exit 1
}
[ -n "${PYTHONPYCACHEPREFIX:-}" ] || export PYTHONDONTWRITEBYTECODE=1
exec sudo -E env "PATH=$PATH" "$@"
