# volume.sh: builds the benchmark's tools and volumes. Sourced by bench.sh and
# test-peers.sh; $here is the folder this file lies in.

# tools DIR: compile the helpers there
bench_tools() {
  local to=$1
  mkdir -p "$to"
  if [ -n "${2:-}" ]; then
    cc -O2 -o "$to/volgen" "$here/volgen.c" -lntfs-3g -lm
    cc -O2 -shared -fPIC -o "$to/clock.so" "$here/clock.c"
  fi
  cc -O2 -static -o "$to/gauge" "$here/gauge.c" 2>/dev/null || cc -O2 -o "$to/gauge" "$here/gauge.c"
  cc -O2 -shared -fPIC -o "$to/nosync.so" "$here/nosync.c"
}

# make_volume TOOLS OUTPUT PROFILE AMOUNT SEED
#   AMOUNT is per mille of the full profile, or records for `scan`.
make_volume() {
  local tools=$1 out=$2 profile=$3 amount=$4 seed=$5 mib zone=1
  case $profile in
    mixed | small) mib=$((3072 * amount / 1000 + 64)) ;;
    scan) mib=$((amount * 2184 / 1048576 + 64)) zone=4 ;;
    *) echo "no profile $profile" >&2; return 2 ;;
  esac
  # random bytes first: what is free afterwards is dirty and does not compress
  "$tools/volgen" noise "$out.part" "$mib" "$seed"
  LD_PRELOAD=$tools/clock.so mkntfs -Q -F -q -c 4096 -s 512 -p 2048 -H 255 -S 63 -z "$zone" \
    -L "bench-$profile" "$out.part" >"$out.log" 2>&1 || { cat "$out.log" >&2; return 1; }
  LD_PRELOAD=$tools/clock.so "$tools/volgen" "$profile" "$out.part" "$amount" "$seed" >"$out.made" || return 1
  python3 "$here/ntfsvol.py" info "$out.part" >"$out.info" || return 1
  rm -f "$out.log"
  mv "$out.part" "$out"
}
