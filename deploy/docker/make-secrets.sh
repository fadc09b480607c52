#!/bin/sh
# Passwords for docker-compose.yml: .env, and a file in secrets/ for each of Kafka's roles. What is there is kept.
# Run it in the folder of docker-compose.yml: sh deploy/docker/make-secrets.sh
set -eu
umask 077
if [ ! -f docker-compose.yml ]; then
    echo "docker-compose.yml is not in $(pwd): run this in its folder" >&2
    exit 2
fi
new() { head -c 24 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
mkdir -p secrets
touch .env
if [ ! -r .env ]; then
    echo ".env cannot be read: what is in it would be lost" >&2
    exit 2
fi
without() { grep -v "^$1=" .env || [ $? = 1 ]; }
names="POSTGRES_PASSWORD MLFLOW_DB_PASSWORD ULTRATHINK_DB_PASSWORD FORENSICS_DB_PASSWORD READER_DB_PASSWORD REDIS_PASSWORD GRAFANA_PASSWORD
GATEWAY_ADMIN_TOKEN DATA_TOKEN KAFKA_ADMIN_PASSWORD ORCHESTRATOR_DB_PASSWORD ORCHESTRATOR_TOKEN"
for name in $names; do
    if grep -q "^$name=." .env; then continue; fi
    { without "$name"; echo "$name=$(new)"; } > secrets/.env.new
    mv secrets/.env.new .env
done
for name in $names; do
    # Compose takes quotes off, and the last of two: what it makes of anything else is not what is written there.
    if [ "$(grep -c "^$name=" .env)" != 1 ] || ! grep -qx "$name=[A-Za-z0-9_-]*" .env; then
        echo ".env: $name must be there once, of letters, digits, - and _ only, without quotes or spaces" >&2
        exit 2
    fi
done
# The folder is its owner's alone; a container's user, who is somebody else, sees the one file that it is given.
keep() { cat > "secrets/.$1.new"; chmod 444 "secrets/.$1.new"; mv -f "secrets/.$1.new" "secrets/$1"; }
for role in gateway broker forensics data experiments metrics sender reader operator; do
    if [ ! -s "secrets/kafka-$role" ]; then new | keep "kafka-$role"; fi
done
sed -n 's/^KAFKA_ADMIN_PASSWORD=//p' .env | tr -d '\n' | keep kafka-admin
# The key that signs the audit trail: an Ed25519 private key in PKCS #8 is this beginning and 32 random bytes.
if [ ! -s secrets/forensics-signing-key ]; then
    {
        echo "-----BEGIN PRIVATE KEY-----"
        { printf '\060\056\002\001\000\060\005\006\003\053\145\160\004\042\004\040'; head -c 32 /dev/urandom; } | base64
        echo "-----END PRIVATE KEY-----"
    } | keep forensics-signing-key
fi
echo "passwords are in .env and secrets/"
