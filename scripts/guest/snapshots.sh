# ntbak with snapshots of LVM (classic and thin) and of bare device-mapper, with a writer
# that never stops, and a classic snapshot that overflows: for scripts/test-lvm.sh
. ./common.sh
ntbak=$shared/ntbak
work=$(mktemp -d)
export XDG_STATE_HOME=$work/state LC_ALL=C
modprobe -a loop dm-snapshot dm-thin-pool 2>/dev/null
group=ntbaktest$$
loops=() writer=
clean() {
  [ -z "$writer" ] || kill "$writer" 2>/dev/null
  mountpoint -q "$work/mnt" && umount "$work/mnt"
  vgremove -q -f -y "$group" >/dev/null 2>&1
  dmsetup remove --retry "$group-plain" >/dev/null 2>&1
  for l in "${loops[@]}"; do losetup -d "$l" 2>/dev/null; done
  rm -rf "$work"
}
trap clean EXIT
disk() { truncate -s "$2" "$work/$1"; l=$(losetup --find --show "$work/$1"); loops+=("$l"); }
# write DEVICE: sector 8 to 15 again and again, each time all of one letter
write() {
  (
    n=0
    while :; do
      n=$(((n + 1) % 26))
      head -c 4096 /dev/zero | tr '\0' "$(printf "\\$(printf %o $((65 + n)))")" |
        dd of="$1" bs=4096 seek=1 conv=notrunc oflag=direct 2>/dev/null || exit
      sleep 0.2
    done
  ) &
  writer=$!
}
quiet() { kill "$writer"; wait "$writer" 2>/dev/null; writer=; }
# one ARCHIVE: the block that is written is one letter only, not halves of two
one() {
  "$ntbak" restore "$1" "$work/back.img" -q --force || return 1
  [ "$(dd if="$work/back.img" bs=4096 skip=1 count=1 2>/dev/null | fold -w1 | sort -u | wc -l)" = 1 ]
}
# holds WORDS... -- FUNCTION...: as try, for functions of this file
holds() {
  local what=()
  while [ "$1" != -- ]; do what+=("$1"); shift; done
  shift
  if "$@" >/tmp/said 2>&1; then ok "${what[*]}"; else fail "${what[*]}"; sed 's/^/          /' /tmp/said | tail -15; fi
}
none_left() { ! { lvs --noheadings -o lv_name "$group"; dmsetup ls; losetup; ls "$work"; } 2>/dev/null | grep -q ntbak-; }

disk pv 400M
pvcreate -q "$l" >/dev/null && vgcreate -q "$group" "$l" >/dev/null || { fail "no volume group"; exit 1; }
lvcreate -q -y -Wn -Zn -L 12M -n classic "$group" >/dev/null 2>&1
lvcreate -q -y -L 32M -T "$group/pool" >/dev/null 2>&1
lvcreate -q -y -V 8M -T "$group/pool" -n thin >/dev/null 2>&1
disk plain 8M
echo "0 16384 linear $l 0" | dmsetup create "$group-plain"
dmsetup mknodes
for part in classic thin plain; do
  case $part in
    plain) device=/dev/mapper/$group-plain way=dm more="--snapshot-dir $work" ;;
    *) device=/dev/$group/$part way=lvm more= ;;
  esac
  head -c 2000000 /dev/urandom | dd of="$device" bs=1M seek=4 conv=notrunc 2>/dev/null
  write "$device"
  # shellcheck disable=SC2086
  try "$part: backup by a snapshot of $way while it is written" -- \
    "$ntbak" image "$device" "$work/$part.ntbak" --raw --snapshot $way --quiet 0 $more
  quiet
  holds "$part: it is of one moment" -- one "$work/$part.ntbak"
  holds "$part: nothing is left" -- none_left
  write "$device"
  # shellcheck disable=SC2086
  "$ntbak" image "$device" "$work/q.ntbak" --raw --snapshot $way --quiet 1s --quiet-timeout 3s $more >/dev/null 2>&1
  same "$part: a writer that never stops" -- 6 $?
  quiet
  try "$part: nothing was written, nothing is left" -- test ! -e "$work/q.ntbak" -a ! -e "$work/q.ntbak.partial"
  holds "$part: nothing is left" -- none_left
  # shellcheck disable=SC2086
  try "$part: a quiet period of 3 s" -- \
    "$ntbak" image "$device" "$work/$part.ntbak" --force --raw --snapshot $way $more
done
# The room for changes is too small for what is written while the backup goes on.
(while :; do head -c 8M /dev/urandom | dd of="/dev/$group/classic" bs=1M oflag=direct iflag=fullblock 2>/dev/null || exit; done) &
writer=$!
"$ntbak" image "/dev/$group/classic" "$work/o.ntbak" --raw --level 19 --threads 1 --snapshot lvm \
  --quiet 0 --snapshot-size 4M >"$work/log" 2>&1
code=$?
quiet
same "overflow: the run fails" -- 1 $code
try "overflow: and says why" -- grep "room for changes.*is full" "$work/log"
try "overflow: the archive does not look whole" -- test ! -e "$work/o.ntbak"
holds "overflow: nothing is left" -- none_left
# A device in use is refused by default where no snapshot can be had, else read from one.
if mkfs.ext4 -q -F "/dev/$group/classic" && mkdir -p "$work/mnt" && mount "/dev/$group/classic" "$work/mnt"; then
  echo flushed >"$work/mnt/file"
  try "mounted: a snapshot is taken by itself" -- \
    "$ntbak" image "/dev/$group/classic" "$work/m.ntbak" --raw --quiet 500ms
  "$ntbak" restore "$work/m.ntbak" "$work/m.img" -q
  try "mounted: what was in the cache is in it" -- grep -q flushed "$work/m.img"
fi
# Killed: named at the next run, removed by its name.
head -c 8M /dev/urandom | dd of="/dev/$group/classic" bs=1M iflag=fullblock 2>/dev/null
mountpoint -q "$work/mnt" && umount "$work/mnt"
"$ntbak" image "/dev/$group/classic" "$work/k.ntbak" --raw --level 19 --threads 1 --snapshot lvm --quiet 0 >/dev/null 2>&1 &
pid=$!
within 60 test -e "$work/k.ntbak.partial"
kill -KILL $pid; wait $pid 2>/dev/null
name=$("$ntbak" snapshot list | awk '{print $1}')
"$ntbak" image "/dev/$group/classic" "$work/n.ntbak" --raw --snapshot none >"$work/log" 2>&1
try "killed: named at the next run" -- grep "snapshot delete $name" "$work/log"
try "killed: removed by its name" -- "$ntbak" snapshot delete "$name"
holds "killed: nothing is left" -- none_left
exit $((bad > 0))
