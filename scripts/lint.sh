#!/usr/bin/env bash
# ruff, mypy and import-linter over the whole project; what they need was installed by scripts/test.sh.
set -euo pipefail
# shellcheck source=scripts/environment.sh
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
filoray_make_environment "kafka,parquet,postgres,test"
cd "$FILORAY_ROOT"

.venv/bin/ruff check .
.venv/bin/ruff format --check .

# mypy and import-linter look packages up as folders: give them filoray/ as an installed tree would have it.
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/filoray"
touch "$tree/filoray/__init__.py"
for room in cluster nodes http scripts/command; do
    cp -r "$room" "$tree/filoray/${room##*/}"
    room=${room##*/}
    touch "$tree/filoray/$room/__init__.py"
done
(cd "$tree" && MYPYPATH=$tree "$FILORAY_PYTHON" -m mypy --config-file "$FILORAY_ROOT/pyproject.toml" \
    --cache-dir "$FILORAY_ROOT/.mypy_cache" -p filoray)
(cd "$tree" && PYTHONPATH=$tree "$FILORAY_ROOT/.venv/bin/lint-imports" --config "$FILORAY_ROOT/pyproject.toml")
