#!/usr/bin/env bash
# test-peers.sh: two faults that the usual tools pass on, and ntbak must not.
#
#   scripts/test-peers.sh [--keep]
#
# 1. $Bitmap calls clusters of a file free. Who copies what $Bitmap calls used loses
#    them; ntbak must bring the file back whole.
# 2. One byte of the archive is inverted. Who has no digest restores it as it is;
#    ntbak must find it, wherever it lies (a byte nothing depends on may pass).
#
# Ends with 1 when ntbak loses anything, with 2 when there is no ntbak to test. What the peers do is shown, not judged; one
# that is not installed is skipped. NTBAK names the binary (default:
# target/release/ntbak). Needs cc, python3, mkntfs and the libntfs-3g headers
# (Debian: gcc libc6-dev ntfs-3g ntfs-3g-dev python3); peers: ntfs-3g partclone.
set -uo pipefail
here=$(cd "$(dirname "$0")/bench" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/volume.sh"
PATH=$PATH:/usr/sbin:/sbin
export PYTHONDONTWRITEBYTECODE=1
: "${NTBAK:=$root/target/release/ntbak}"
passed=0 failed=0 skipped=0

case ${1:-} in
  '' | --keep) ;;
  *) sed -n '2,/^set -/p' "$0" | sed '/^set -/d; s/^# \{0,1\}//'; exit 2 ;;
esac
for need in cc python3 mkntfs; do
  command -v $need >/dev/null || { echo "test-peers.sh: $need is needed"; exit 2; }
done
W=$(mktemp -d "${TMPDIR:-/tmp}/ntbak-peers.XXXXXX")
[ "${1:-}" = --keep ] && echo "work: $W" || trap 'rm -rf "$W"' EXIT

say() { printf '%-10s %s\n' "$1" "$2"; }
pass() { passed=$((passed + 1)); say "ok" "$1"; }
lose() { failed=$((failed + 1)); say "FAILED" "$1"; }
skip() { skipped=$((skipped + 1)); say "skipped:" "$1 not installed"; }
ours() { timeout 300 "$NTBAK" "$@" </dev/null >"$W/out" 2>"$W/err"; } # its exit code is the result
peer() { timeout 300 "$@" </dev/null >"$W/out" 2>&1; }
vol() { python3 "$here/ntfsvol.py" "$@"; }
digest() { vol content "$1" "$record" 2>/dev/null | sha256sum | cut -c1-16; }
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$W/victim" "$1"; }
blank() { rm -f "$W/t"; truncate -s "$(stat -c %s "$W/sound")" "$W/t"; }

bench_tools "$W/tools" all || exit 2
make_volume "$W/tools" "$W/sound" mixed 30 20240611 || exit 2
vol victim "$W/sound" 40 >"$W/victim" || exit 2
record=$(field record) path=$(field path) lcn=$(field lcn)
whole=$(digest "$W/sound")

echo "1. \$Bitmap calls 8 clusters of $path free (from cluster $((lcn + 4)))"
cp --sparse=always "$W/sound" "$W/forgot"
vol forget "$W/forgot" $((lcn + 4)) 8 || exit 2
[ "$(digest "$W/forgot")" = "$whole" ] || { echo "test-peers.sh: the damaged volume lost the file itself"; exit 2; }

if command -v partclone.ntfs >/dev/null && command -v partclone.restore >/dev/null; then
  blank
  peer partclone.ntfs -q -c -s "$W/forgot" -O "$W/a.pc" -L "$W/log"; a=$?
  peer partclone.restore -q -C -s "$W/a.pc" -O "$W/t" -L "$W/log"; b=$?
  if [ "$(digest "$W/t")" = "$whole" ]; then say "partclone" "save exit $a, restore exit $b: the file is whole"
  else say "partclone" "save exit $a, restore exit $b: THE FILE DIFFERS$([ $((a + b)) = 0 ] && echo ', lost without a word')"; fi
else skip partclone; fi
if command -v ntfsclone >/dev/null; then
  rm -f "$W/t"
  peer ntfsclone -q -f -s -O "$W/a.nc" "$W/forgot"; a=$?
  if [ $a != 0 ]; then say "ntfsclone" "refuses, exit $a: no backup"
  else peer ntfsclone -q -r -O "$W/t" "$W/a.nc"; b=$?
    say "ntfsclone" "save exit $a, restore exit $b: the file $([ "$(digest "$W/t")" = "$whole" ] && echo is whole || echo DIFFERS)"; fi
  rm -f "$W/a.nc"
else skip ntfsclone; fi

if [ ! -x "$NTBAK" ]; then
  say "skipped:" "$NTBAK is not built (cargo build --release)"
  skipped=$((skipped + 1))
else
  rm -f "$W/t"
  ours image "$W/forgot" "$W/forgot.ntbak"; a=$?
  grep -qi bitmap "$W/out" "$W/err" && told=", and says so" || told=", without a word about it"
  ours restore "$W/forgot.ntbak" "$W/t"; b=$?
  if { [ $a = 0 ] || [ $a = 3 ]; } && [ $b = 0 ] && [ "$(digest "$W/t")" = "$whole" ]; then pass "ntbak image exit $a, restore exit $b: the file is whole$told"
  else lose "ntbak image exit $a, restore exit $b: the file $([ "$(digest "$W/t")" = "$whole" ] && echo is whole || echo DIFFERS): $(head -c 300 "$W/err")"; fi
  if [ -e "$W/t" ] && vol compare "$W/forgot" "$W/t" >"$W/cmp"; then pass "ntbak: everything else is equal too"
  else lose "ntbak: of the rest $(cat "$W/cmp" 2>/dev/null || echo nothing was restored)"; fi
  ours cat "$W/forgot.ntbak" "$path"; a=$?
  if [ $a = 0 ] && [ "$(sha256sum <"$W/out" | cut -c1-16)" = "$whole" ]; then pass "ntbak cat: the file, straight from the archive"
  else lose "ntbak cat: exit $a, another content: $(head -c 300 "$W/err")"; fi
  ours verify "$W/forgot.ntbak" --against "$W/forgot"; a=$?
  if [ $a = 0 ]; then pass "ntbak verify --against the volume"
  else lose "ntbak verify --against the volume: exit $a: $(head -c 300 "$W/err")"; fi
fi

echo "2. one byte of the archive inverted"
# inside() ARCHIVE: where the content of that file lies in an uncompressed archive
inside() {
  vol content "$W/sound" "$record" >"$W/piece"
  python3 -c 'import sys; p = open(sys.argv[1], "rb").read()[8192:8256]; print(open(sys.argv[2], "rb").read().find(p))' "$W/piece" "$1"
}
spoil() { # spoil NAME SAVE RESTORE: two command lines over $W/a and $W/t
  eval "peer $2" || { say "$1" "could not save: $(tail -n 1 "$W/out")"; return; }
  local at; at=$(inside "$W/a")
  [ "$at" -ge 0 ] || { say "$1" "the file is not in its archive as it is"; return; }
  vol flip "$W/a" $((at + 20))
  blank
  eval "peer $3"; local b=$?
  if [ "$(digest "$W/t")" = "$whole" ]; then say "$1" "restore exit $b: the file is whole"
  elif [ $b = 0 ]; then say "$1" "restore exit 0: THE FILE DIFFERS, without a word"
  else say "$1" "restore exit $b: found"; fi
  rm -f "$W/a" "$W/t"
}
if command -v ntfsclone >/dev/null; then
  spoil ntfsclone 'ntfsclone -q -f -s -O "$W/a" "$W/sound"' 'ntfsclone -q -r --overwrite "$W/t" "$W/a"'
else skip ntfsclone; fi
if command -v partclone.ntfs >/dev/null && command -v partclone.restore >/dev/null; then
  spoil partclone 'partclone.ntfs -q -c -s "$W/sound" -O "$W/a" -L "$W/log"' 'partclone.restore -q -C -s "$W/a" -O "$W/t" -L "$W/log"'
else skip partclone; fi

if [ ! -x "$NTBAK" ]; then
  say "skipped:" "$NTBAK is not built"
  skipped=$((skipped + 1))
else
  ours image "$W/sound" "$W/good.ntbak"; a=$?
  ours verify "$W/good.ntbak"; b=$?
  if [ $a$b != 00 ]; then lose "ntbak image exit $a, verify of the sound archive exit $b: $(head -c 300 "$W/err")"
  else
    # both ends, and two dozen places between (the same ones every time)
    size=$(stat -c %s "$W/good.ntbak")
    places=$(python3 -c 'import random, sys; n = int(sys.argv[1]); r = random.Random(7)
print(*sorted({0, 9, 40, n // 2, n - 1, n - 40, *(r.randrange(n) for _ in range(24))}))' "$size")
    found=0 harmless=0 bad=0 all=0
    for at in $places; do
      all=$((all + 1))
      cp "$W/good.ntbak" "$W/spoilt.ntbak"
      vol flip "$W/spoilt.ntbak" "$at"
      rm -f "$W/t"
      ours verify "$W/spoilt.ntbak"; a=$?
      ours restore "$W/spoilt.ntbak" "$W/t"; b=$?
      same=no
      [ -s "$W/t" ] && vol compare "$W/sound" "$W/t" >/dev/null 2>&1 && same=yes
      if [ $a -ge 124 ] || [ $b -ge 124 ] || [ $a = 101 ] || [ $b = 101 ]; then bad=$((bad + 1)); say "" "byte $at: verify exit $a, restore exit $b: it broke down"
      elif [ $b = 0 ] && [ $same = no ]; then bad=$((bad + 1)); say "" "byte $at: verify exit $a, restore exit 0: wrong data without a word"
      elif [ $a = 0 ] && [ $b != 0 ]; then bad=$((bad + 1)); say "" "byte $at: verify calls it sound, restore exit $b"
      elif [ $a != 0 ]; then found=$((found + 1))
      else harmless=$((harmless + 1)); fi
    done
    if [ $bad = 0 ] && [ $found -gt 0 ]; then pass "ntbak: $all places, $found found by verify, $harmless without effect, none restored wrong in silence"
    else lose "ntbak: $all places, $bad of them let through"; fi
  fi
fi
echo
echo "$passed passed, $failed failed, $skipped skipped"
[ -x "$NTBAK" ] || exit 2 # nothing of ours was tested
[ $failed = 0 ]
