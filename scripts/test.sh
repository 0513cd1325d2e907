#!/usr/bin/env bash
# Runs every test, or those that the arguments (pytest's) choose.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
filoray_make_environment "kafka,parquet,postgres,test"
cd "$FILORAY_ROOT"
"$FILORAY_PYTHON" -m filoray.nodes.kernels
if [ $# -gt 0 ]; then
    exec "$FILORAY_PYTHON" -m pytest "$@"
fi

# What only computes takes what processors the others leave: real clusters mostly wait, and must not be made to.
beside=(tests/property tests/sim tests/unit)
said=$(mktemp)
set -m # or the shell has it ignore interrupts, with which some tests end what they began
nice -n 15 "$FILORAY_PYTHON" -m pytest --timeout=1200 -p no:cacheprovider "${beside[@]}" >"$said" 2>&1 &
computing=$!
set +m
trap 'kill "$computing" 2>/dev/null || true; rm -f "$said"' EXIT
failed=0
"$FILORAY_PYTHON" -m pytest "${beside[@]/#/--ignore=}" || failed=$?
wait "$computing" || failed=$?
cat "$said"
exit "$failed"
