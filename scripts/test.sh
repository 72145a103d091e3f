#!/usr/bin/env bash
# All checks, cheapest first: lint, types, what needs no rack on all processors, then the rack, whose
# hosts want answers in time.
#   scripts/test.sh [PYTEST ARGUMENT ...]       default: everything
#
# A rack mostly waits, but two at a time lose races and are no quicker. What only computes, for
# minutes (marked `patient`), takes the time that all others leave. A run of random faults (marked
# `alone`) has nothing beside it.
#
# Real processes on a busy machine lose a race now and then. So up to FEW tests that failed are run
# once more, alone, and what fails twice has failed. A run of random faults gets no second chance:
# what it found is a bug, whether it comes again or not.
set -euo pipefail
cd "$(dirname "$0")/.."
FEW=4
NEVER_TWICE='chaos|soak|sim/|model/|mutants'

sources=(src tests packaging)
for room in bench lab; do [ -d "$room" ] && sources+=("$room"); done
echo "== ruff check" && .venv/bin/ruff check -q "${sources[@]}"
echo "== ruff format" && .venv/bin/ruff format -q --check "${sources[@]}"
scratch=$(mktemp -d)
patient=
leave() {
  [ -z "$patient" ] || scripts/as-root.sh kill -- "-$patient" 2>/dev/null || true
  rm -rf "$scratch" 2>/dev/null || scripts/as-root.sh rm -rf "$scratch"
}
trap leave EXIT
if [ "$(id -u)" != 0 ]; then
  # root must not leave files here that a user cannot remove
  export HYPOTHESIS_STORAGE_DIRECTORY=$scratch/hypothesis
fi
pytest=(scripts/as-root.sh .venv/bin/python -m pytest --durations 12)

# files MARK: those with such tests; a session that reads all 7,000 tests first takes long to begin
files() { grep -rl --include='test_*.py' "mark\.$1" tests; }

# part NAME MARK [ARGUMENT ...]: the tests of one mark, and the few that failed once more
part() {
  local cache=$scratch/$1 mark=$2 status=0 failed
  shift 2
  "${pytest[@]}" -o cache_dir="$cache" -m "$mark" "$@" || status=$?
  [ $status = 1 ] || return $status
  failed=$(grep -c '": true' "$cache/v/cache/lastfailed")
  if [ "$failed" -gt $FEW ] || grep -qE "$NEVER_TWICE" "$cache/v/cache/lastfailed"; then
    return 1
  fi
  echo "== pytest, $failed that failed, once more and alone"
  "${pytest[@]}" -o cache_dir="$cache" -m "$mark" --last-failed
}

# behind COMMAND ... &: when nobody else wants a processor. A session has a share of its own of
# them, so the whole session has to stand back. Its process group is $!.
behind() {
  exec setsid bash -c \
    '{ echo 19 >/proc/self/autogroup; chrt --idle --pid 0 $$; } 2>/dev/null; exec "$@"' behind "$@"
}

# forward GROUP: like everybody else from now on, whoever else is on this machine.
forward() {
  { echo 0 >"/proc/$1/autogroup"; } 2>/dev/null || true
  pgrep -g "$1" | xargs -r -n 1 chrt --other --pid 0 2>/dev/null || true
}

if [ $# = 0 ]; then
  behind "${pytest[@]}" -p no:cacheprovider -m patient -n auto $(files patient) \
    >"$scratch/patient.log" 2>&1 &
  patient=$!
fi
echo "== mypy" && .venv/bin/mypy
echo "== pytest"
if [ $# -gt 0 ]; then
  "${pytest[@]}" -p no:cacheprovider "$@"
  exit
fi
# some thousand processes: each would compile all that it imports, for half of its time
PYTHONPYCACHEPREFIX=$scratch/pycache PYTHONDONTWRITEBYTECODE='' \
  part quick "not rack and not patient" -n auto --dist loadfile
echo "== pytest, the rack"
part rack "rack and not alone" $(files rack)
echo "== pytest, what only computes"
forward "$patient"
computed=0
wait "$patient" || computed=$?
patient=
cat "$scratch/patient.log"
[ $computed = 0 ] || exit $computed
echo "== pytest, random faults"
part faults alone $(files alone)
