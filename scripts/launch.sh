#!/usr/bin/env bash
# Starts a cluster on this machine and returns when it is ready. --help shows the options.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
filoray_make_environment ""
exec "$FILORAY_PYTHON" -m filoray.command.cli up "$@"
