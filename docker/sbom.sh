#!/usr/bin/env bash
# Software bill of materials (CycloneDX JSON) of a Python environment: bash docker/sbom.sh [PYTHON] > sbom.json
# In an image: docker run --rm --entrypoint /opt/gnome/bin/pip IMAGE freeze > frozen.txt, then
# bash docker/sbom.sh requirements frozen.txt
set -euo pipefail
tool=$(dirname "$0")/../.venv/bin/cyclonedx-py
[ -x "$tool" ] || { echo "cyclonedx-py is missing: pip install -e '.[deploy]'" >&2; exit 1; }
if [ "${1:-}" = requirements ]; then
  exec "$tool" requirements --output-reproducible --of JSON "$2"
fi
exec "$tool" environment --output-reproducible --of JSON "${1:-$(dirname "$0")/../.venv/bin/python}"
