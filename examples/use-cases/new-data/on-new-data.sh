#!/bin/sh
# Starts a run for every file that is put into a folder, and moves the file on once its run is accepted.
#
#   WEBHOOK_CONFIG=~/.webhook-daily-sales on-new-data.sh FOLDER
#
# WEBHOOK_CONFIG is a curl configuration (mode 0600) with the lines: url = "https://…/webhook" and
# header = "Authorization: Bearer whk_…"
# Run it from cron or a systemd path unit. Writers put a file in place with `mv`, so that it is whole. The same file
# under the same name starts one run only, however often this is stopped in between and started again.
set -eu
folder=$1
mkdir -p "$folder/accepted"
failed=0
for file in "$folder"/*.csv; do
    [ -f "$file" ] || continue
    # The name is a part of the key, since two files may well have the same content.
    key="new-data-$(printf '%s\n' "${file##*/}" | cat - "$file" | cksum | tr ' ' '-')"
    # The name of the file is a parameter; curl encodes it.
    if curl -sS --fail-with-body -X POST -K "$WEBHOOK_CONFIG" -H "Idempotency-Key: $key" \
        --data-urlencode "file=${file##*/}"; then
        mv "$file" "$folder/accepted/"
    else
        # The files after it may fare better.
        echo "not accepted: $file" >&2
        failed=1
    fi
done
exit "$failed"
