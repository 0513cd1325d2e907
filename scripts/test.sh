#!/usr/bin/env bash
# Runs every test, or those that the arguments (pytest's) choose.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
filoray_make_environment "kafka,parquet,postgres,test"
cd "$FILORAY_ROOT"
"$FILORAY_PYTHON" -m filoray.nodes.kernels
exec "$FILORAY_PYTHON" -m pytest "$@"
