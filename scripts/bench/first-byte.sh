#!/usr/bin/env bash
# first-byte.sh VOLUME [FILES]: makes an archive of a volume and counts, with
# strace, what is read of it for the first byte of some files.
set -euo pipefail
volume=${1:?a volume}; files=${2:-5}
here=$(cd "$(dirname "$0")/../.." && pwd)
ntbak=${NTBAK:-$here/target/release/ntbak}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$ntbak" image --quiet "$volume" "$work/a.ntbak"
echo "archive: $(stat -c %s "$work/a.ntbak") bytes"
"$ntbak" ls -R "$work/a.ntbak" > "$work/list"
step=$(( $(wc -l < "$work/list") / (files + 1) ))
for i in $(seq "$files"); do
  path=$(sed -n "$(( i * step ))p" "$work/list")
  strace -f -y -e trace=read,pread64 -o "$work/trace" "$ntbak" cat "$work/a.ntbak" "$path" 2>/dev/null | head -c 1 > /dev/null || true
  grep -F "a.ntbak>" "$work/trace" | awk -F'= ' -v p="$path" '$NF > 0 { n++; s += $NF } END { printf "%d reads, %d bytes: %s\n", n, s, p }'
done
