#!/usr/bin/env bash
# Snapshots by LVM and by bare device-mapper, for real: classic and thin snapshots with a
# writer that never stops, one that overflows, one that is left by a killed run.
#
#   scripts/test-lvm.sh
#
# Runs here when device-mapper and LVM's tools are here and this is root (in a volume group
# of its own on a loop device); else in the guest that NTBAK_GUEST names (scripts/test-linux.sh
# --help); else it says that it skips. NTBAK names the program.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;; esac
cd "$(dirname "$0")/.."
here=no
if [[ $(id -u) = 0 ]] && command -v lvs dmsetup losetup >/dev/null && dmsetup version >/dev/null 2>&1; then here=yes; fi
if [[ $here = no && -z ${NTBAK_GUEST:-} ]]; then
  echo "skipped: no device-mapper with LVM's tools here, and NTBAK_GUEST names no guest (--help)"
  exit 0
fi
if [[ -z ${NTBAK:-} ]]; then
  cargo build --quiet --locked
  NTBAK=target/debug/ntbak
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp scripts/guest/{common,snapshots}.sh "$work/"
cp "$NTBAK" "$work/ntbak"
if [[ $here = yes ]]; then
  (cd "$work" && bash snapshots.sh)
else
  read -r -a guest <<<"$NTBAK_GUEST"
  timeout -k 5 600 "${guest[@]}" scripts/guest/snapshots.sh --share "$work"
fi
echo "snapshots by LVM and device-mapper: all passed"
