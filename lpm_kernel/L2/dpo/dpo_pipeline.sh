#!/usr/bin/env bash
# The main job in one command: set up what is missing, then run the chain to its verdict.
#   bash lpm_kernel/L2/dpo/dpo_pipeline.sh --demo    on the embedded demo
#   bash lpm_kernel/L2/dpo/dpo_pipeline.sh           on your own model in resources/
# Arguments go to `lpm pipeline`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
"$root/scripts/setup"
exec "$root/.venv/bin/lpm" pipeline "$@"
