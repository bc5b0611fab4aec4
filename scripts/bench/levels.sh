#!/usr/bin/env bash
# levels.sh VOLUME [ROUNDS] [LEVELS]: what a zstd level costs and brings with
# `ntbak image`, rounds interleaved; medians as a Markdown table. Chooses the
# default level of the program.
set -euo pipefail
volume=${1:?a volume}; rounds=${2:-3}; levels=${3:-1 2 3 4 6}
here=$(cd "$(dirname "$0")/../.." && pwd)
ntbak=${NTBAK:-$here/target/release/ntbak}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
TIMEFORMAT='%R %U %S'
for round in $(seq "$rounds"); do
  for l in $levels; do
    cat "$volume" > /dev/null
    { time "$ntbak" image --quiet --force --level "$l" "$volume" "$work/a" 2>"$work/err" || cat "$work/err" >&2; } 2>> "$work/t$l"
    stat -c %s "$work/a" > "$work/size$l"
  done
done
median() { sort -n | awk '{ a[NR] = $1 } END { print a[int((NR + 1) / 2)] }'; }
base=$(cat "$work/size${levels%% *}")
echo "| level | wall s | user+sys s | MiB | size |"
echo "|---|---|---|---|---|"
for l in $levels; do
  wall=$(awk '{ print $1 }' "$work/t$l" | median)
  cpu=$(awk '{ print $2 + $3 }' "$work/t$l" | median)
  awk -v l="$l" -v w="$wall" -v c="$cpu" -v s="$(cat "$work/size$l")" -v b="$base" \
    'BEGIN { printf "| %s | %.2f | %.2f | %.1f | %.3f |\n", l, w, c, s / 1048576, s / b }'
done
