#!/usr/bin/env bash
# Programs of others against `ntbak target`, and ntbak against Debian's target.
#
#   scripts/test-third-parties.sh
#
# 1. iscsi-ls and iscsi-inq list and name the units.
# 2. qemu-img reads and writes a disk unit by its own iSCSI driver.
# 3. Three initiators at once: two write a disk each, one reads a third; and ntbak
#    restores to a unit over the wire.
# 4. ntbak writes a tape of tgt (host mover: tgt has no copy manager), verifies it,
#    restores from it.
#
# Needs libiscsi-bin, qemu-utils, qemu-block-extra, ntfs-3g (mkntfs), and tgt with
# permission to run tgtadm; what is not installed is skipped and said so. NTBAK names the
# program. Only 127.0.0.1 is used; everything that is started is ended by its id.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 0 ;; esac
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
if [[ -z ${NTBAK:-} ]]; then
  cargo build --quiet --locked
  NTBAK=target/debug/ntbak
fi
ntbak=$(realpath "$NTBAK")
work=$(mktemp -d)
server= tgtd=
passed=0 failed=0 skipped=0
cleanup() {
  [[ -z $server ]] || { kill "$server" 2>/dev/null && wait "$server"; } || true
  [[ -z $tgtd ]] || { kill -9 "$tgtd" 2>/dev/null && wait "$tgtd" 2>/dev/null; } || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
cd "$work"
export XDG_STATE_HOME=$work/state

skip() { printf 'skipped %s\n' "$*"; skipped=$((skipped + 1)); }
# try WORDS... -- COMMAND...
try() {
  local what=() status=0
  while [[ $1 != -- ]]; do what+=("$1"); shift; done
  shift
  timeout -k 5 120 "$@" >said 2>&1 </dev/null || status=$?
  if [[ $status = 0 ]]; then
    printf 'ok      %s\n' "${what[*]}"; passed=$((passed + 1))
  else
    printf 'FAILED  %s (status %s)\n' "${what[*]}" "$status"; failed=$((failed + 1))
    tail -15 said | sed 's/^/        /'
  fi
}
shows() { head -"${1:-20}" said | sed 's/^/        /'; }
have() { command -v "$1" >/dev/null || { skip "$1 is not installed"; return 1; }; }
blocks() { head -c "$1" /dev/urandom; }

truncate -s 64M {a,b,c}.img
"$ntbak" target --listen 127.0.0.1:0 --disk a=a.img --disk b=b.img --disk c=c.img \
  --tape t=t.tap,size=256M >urls 2>target.log &
server=$!
for _ in $(seq 100); do
  [[ $(wc -l <urls) -ge 4 ]] && break
  kill -0 "$server" 2>/dev/null || { cat target.log >&2; exit 2; }
  sleep 0.1
done
base=$(head -1 urls | cut -d' ' -f1)
base=${base%/*}
portal=${base%/*}

if have iscsi-ls; then
  try iscsi-ls -s lists the units -- iscsi-ls -s "$portal"
  shows
  try four of them -- test "$(grep -c 'Lun:' said)" = 4
fi
if have iscsi-inq; then
  for lun in 0 3; do
    try iscsi-inq of unit $lun -- iscsi-inq "$base/$lun"
    shows 4
    for page in 0x00 0x80 0x83; do try page $page of unit $lun -- iscsi-inq -e 1 -c $page "$base/$lun"; done
  done
  for page in 0x8f 0xb0 0xb1 0xb2; do try page $page of unit 0 -- iscsi-inq -e 1 -c $page "$base/0"; done
fi

if have qemu-img; then
  if ! timeout 30 qemu-img info "$base/0" >said 2>&1; then
    if grep -qi 'unknown protocol\|no such file\|unable to load module' said; then skip "qemu-img has no iscsi driver (qemu-block-extra)"; else try qemu-img info -- qemu-img info "$base/0"; fi
  else
    try qemu-img info -- qemu-img info -f raw "$base/0"
    shows 6
    { blocks 20M; head -c 12M /dev/zero; blocks 32M; } >data.img
    try qemu-img writes a unit -- qemu-img convert -n -f raw -O raw data.img "$base/0"
    try qemu-img reads it back -- qemu-img convert -f raw -O qcow2 "$base/0" back.qcow2
    try the same -- qemu-img compare -f raw -F qcow2 data.img back.qcow2
    try qemu-img compares over the wire -- qemu-img compare -f raw -F raw data.img "$base/0"
    blocks 64M >data2.img
    (timeout 100 qemu-img convert -n -f raw -O raw data2.img "$base/1"; echo $? >s1) >o1 2>&1 & one=$!
    (timeout 100 qemu-img convert -n -f raw -O raw data.img "$base/2"; echo $? >s2) >o2 2>&1 & two=$!
    try a third initiator reads meanwhile -- qemu-img compare -f raw -F raw data.img "$base/0"
    wait $one $two
    try two writers at once ended well -- test "$(cat s1 s2 | tr -d '\n')" = 00
    try what the first wrote -- qemu-img compare -f raw -F raw data2.img "$base/1"
    try what the second wrote -- qemu-img compare -f raw -F raw data.img "$base/2"
  fi
fi
if command -v mkntfs >/dev/null; then
  truncate -s 64M vol.img
  mkntfs -Q -F vol.img >/dev/null 2>&1
  blocks 5M >file
  ! command -v ntfscp >/dev/null || ntfscp vol.img file /file >/dev/null 2>&1
  try ntbak writes the volume to unit 1 -- "$ntbak" image vol.img vol.ntbak --progress never
  try and restores it there -- "$ntbak" restore vol.ntbak "$base/1" --yes --progress never
  try the served file holds it -- "$ntbak" verify vol.ntbak --against b.img --progress never
fi
kill "$server"
status=0
wait "$server" || status=$?
server=
try the target ended well -- test $status = 0

if have tgtd && have tgtadm && have tgtimg && have mkntfs; then
  export TGT_IPC_SOCKET=$work/ipc
  port=$((20000 + RANDOM % 10000)) control=$((RANDOM % 30000 + 1))
  tgtimg --op new --device-type tape --barcode=NTB001L5 --size=256 --type=data --file=tgt.tape >/dev/null
  tgtd -f -C $control --iscsi portal=127.0.0.1:$port >tgtd.log 2>&1 </dev/null &
  tgtd=$!
  adm() { timeout 20 tgtadm -C $control "$@"; }
  for _ in $(seq 50); do adm --op show --mode sys >/dev/null 2>&1 && break; sleep 0.1; done
  iqn=iqn.2026-11.org.ntbak:tgt
  if adm --lld iscsi --op new --mode target --tid 1 -T $iqn 2>said &&
    adm --lld iscsi --op new --mode logicalunit --tid 1 --lun 1 -b "$work/tgt.tape" --device-type tape --bstype ssc 2>said &&
    adm --lld iscsi --op bind --mode target --tid 1 -I ALL 2>said; then
    tape=iscsi://127.0.0.1:$port/$iqn/1
    try probe of the tape of tgt -- "$ntbak" probe "$tape"
    shows 12
    try image to it -- "$ntbak" image vol.img "$tape" --label TGT1 --mover auto --progress never
    grep -E 'moves|Written' said | sed 's/^/        /'
    try ls -- "$ntbak" ls "$tape" /
    try verify -- "$ntbak" verify "$tape" --progress never
    truncate -s 64M out.img
    try restore from it -- "$ntbak" restore "$tape" out.img --force --progress never
    try the same volume -- "$ntbak" diff vol.img out.img
    try verify against the volume -- "$ntbak" verify "$tape" --against vol.img --progress never
  else
    skip "tgtd cannot be told what to serve: $(head -1 said)"
  fi
  kill -9 "$tgtd" 2>/dev/null || true
  wait "$tgtd" 2>/dev/null || true
  tgtd=
fi
echo
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed = 0 ]]
