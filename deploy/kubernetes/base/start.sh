#!/bin/sh
# Load what is released, and nothing else: every model whose version_policy names a version.
set -eu
repository=${1:-/models}
[ $# -gt 0 ] && shift
for config in "$repository"/*/config.pbtxt; do
    [ -f "$config" ] || continue
    if grep -q '^    versions: ' "$config"; then
        set -- "$@" "--load-model=$(basename "$(dirname "$config")")"
    fi
done
exec tritonserver --model-repository="$repository" --model-control-mode=explicit --exit-on-error=false \
    --strict-readiness=false --disable-auto-complete-config "$@"
