#!/usr/bin/env bash
# The Linux kernel's initiator, drivers and tools against `ntbak target`, and ntbak itself
# by SG_IO, in a guest.
#
#   NTBAK_GUEST=COMMAND scripts/test-linux.sh [PART...]
#
# Parts: tape (mt, tar), disk (mkntfs, ntfs3, sg_copy_results, sg_xcopy), serverless (ntbak
# backs up and restores over /dev/sgN), lio (ntbak asks the kernel's copy manager),
# changer (mtx), port (a copy manager that knows units by port and number only, asked by
# SG_IO). All of them when none is named.
#
# COMMAND runs a script as root in a guest and ends with its status:
#   COMMAND SCRIPT --share DIR -- ARGUMENT...
# DIR is the script's working directory there. The guest needs a kernel with iscsi_tcp,
# sd_mod, st, sg, ch, ntfs3 and the LIO modules; open-iscsi, sg3-utils, mt-st, mtx, ntfs-3g.
# It reaches this machine's loopback as NTBAK_GUEST_HOST (10.0.2.2 when not set, QEMU's user
# network). Without NTBAK_GUEST nothing is tested. NTBAK names the program.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;; esac
cd "$(dirname "$0")/.."
if [[ -z ${NTBAK_GUEST:-} ]]; then
  echo "skipped: NTBAK_GUEST does not name a program that runs a script in a Linux guest (--help)"
  exit 0
fi
read -r -a guest <<<"$NTBAK_GUEST"
host=${NTBAK_GUEST_HOST:-10.0.2.2}
iqn=iqn.2026-11.org.ntbak:target
if [[ -z ${NTBAK:-} ]]; then
  cargo build --quiet --locked
  NTBAK=target/debug/ntbak
fi
parts=("$@")
[[ $# -gt 0 ]] || parts=(tape disk serverless lio changer port)

work=$(mktemp -d)
server=
stop() {
  [[ -z $server ]] && return
  kill "$server" 2>/dev/null || true
  local status=0
  wait "$server" || status=$?
  server=
  return $status
}
trap 'stop || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir "$work/share" "$work/cartridges"
cp scripts/guest/*.sh "$work/share/"
cp "$NTBAK" "$work/share/ntbak"

failed=0
for part in "${parts[@]}"; do
  [[ -e scripts/guest/$part.sh && $part != common ]] || { echo "test-linux.sh: no part $part" >&2; exit 2; }
  rm -f "$work"/{a.img,b.img,t.tap,urls} "$work"/cartridges/*
  truncate -s 128M "$work"/{a,b}.img
  # disk 0, disk 1, tape 2, changer 3; its part begins with an empty drive
  tape=t=$work/t.tap,size=512M
  [[ $part != changer ]] || tape=t
  profile=full-ntbak
  [[ $part != port ]] || profile=xp-dbe
  "$NTBAK" target --listen 127.0.0.1:0 --disk a="$work/a.img" --disk b="$work/b.img" \
    --tape "$tape" --changer c="$work/cartridges",slots=4,size=64M --profile $profile \
    >"$work/urls" 2>"$work/log" &
  server=$!
  for _ in $(seq 100); do
    [[ $(wc -l <"$work/urls") -ge 4 ]] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 2; }
    sleep 0.1
  done
  port=$(sed -n '1s,^iscsi://[^/]*:\([0-9]*\)/.*,\1,p' "$work/urls")
  case $part in
    tape) units=(2) ;;
    disk) units=(0 1) ;;
    serverless) units=(0 1 2) ;;
    changer) units=(2 3) ;;
    port) units=(0 2) ;;
    *) units=() ;;
  esac
  echo "== $part"
  status=0
  timeout -k 5 300 "${guest[@]}" "scripts/guest/$part.sh" --share "$work/share" -- \
    "$host:$port" "$iqn" ${units[@]+"${units[@]}"} || status=$?
  [[ $status = 0 ]] || { echo "== $part FAILED (status $status)"; failed=$((failed + 1)); }
  stop || { echo "== $part: the target ended with status $?"; cat "$work/log"; failed=$((failed + 1)); }
  [[ ! -s $work/log ]] || sed 's/^/  target: /' "$work/log"
done
echo
echo "${#parts[@]} parts, $failed failed"
[[ $failed = 0 ]]
