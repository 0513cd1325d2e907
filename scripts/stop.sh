#!/usr/bin/env bash
# Stops the cluster that scripts/launch.sh started (with the same --data-dir), and no other.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
filoray_make_environment ""
exec "$FILORAY_PYTHON" -m filoray.command.cli down "$@"
