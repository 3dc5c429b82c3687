#!/bin/sh
# Starts two servers on one database, and nginx in front of them. Ctrl-C stops all of them.
#   start.sh postgres://user:password@host/database
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
cargo build --release --example server
# A process list shows flags and not variables.
export WEBHOOK_STORE=$1
export WEBHOOK_TOKEN_KEY=$here/data/shared.key
export WEBHOOK_ADMIN_TOKEN_FILE=$here/data/admin.token
export WEBHOOK_BASE_URL=http://127.0.0.1:8080
export WEBHOOK_TRUSTED_PROXY=127.0.0.1/32
umask 077
mkdir -p "$here/data/artifacts" "$here/data/one" "$here/data/two"
[ -e "$WEBHOOK_ADMIN_TOKEN_FILE" ] || head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$WEBHOOK_ADMIN_TOKEN_FILE"
# Each server shows the artifacts of both.
for name in one two; do
    ln -sfn ../artifacts "$here/data/$name/artifacts"
done
trap 'kill 0' EXIT INT TERM
target/release/examples/server --data "$here/data/one" --name one --listen 127.0.0.1:8081 &
# The first start creates the key and the schema.
while [ ! -e "$WEBHOOK_TOKEN_KEY" ]; do sleep 0.1; done
target/release/examples/server --data "$here/data/two" --name two --listen 127.0.0.1:8082 &
nginx -p "$here" -c "$here/nginx.conf" &
wait
