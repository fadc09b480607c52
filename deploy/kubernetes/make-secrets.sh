#!/bin/sh
# The desk's secrets as manifests, new at every call: sh deploy/kubernetes/make-secrets.sh | kubectl create -f -
# `create`, not `apply`: what is there is kept, and kubectl says so. Kafka's passwords are made by Strimzi.
set -eu
new() { head -c 24 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
begin() { printf -- '---\napiVersion: v1\nkind: Secret\nmetadata: {name: %s, namespace: ultrathink}\ntype: %s\nstringData:\n' "$1" "$2"; }
# The key that signs the audit trail: an Ed25519 private key in PKCS #8 is this beginning and 32 random bytes.
key() {
    echo "-----BEGIN PRIVATE KEY-----"
    { printf '\060\056\002\001\000\060\005\006\003\053\145\160\004\042\004\040'; head -c 32 /dev/urandom; } | base64
    echo "-----END PRIVATE KEY-----"
}
begin desk Opaque
for name in redis-password gateway-admin-token data-token orchestrator-token; do printf '  %s: "%s"\n' "$name" "$(new)"; done
for role in mlflow ultrathink orchestrator forensics reader; do
    begin "postgres-$role" kubernetes.io/basic-auth
    printf '  username: %s\n  password: "%s"\n' "$role" "$(new)"
done
begin forensics-signing-key Opaque
printf '  signing-key: |\n'
key | sed 's/^/    /'
