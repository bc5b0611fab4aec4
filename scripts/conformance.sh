#!/usr/bin/env bash
# The disk units of `ntbak target` against libiscsi's conformance suite
# (iscsi-test-cu), compared with what is expected of them.
#
#   scripts/conformance.sh [--update] [SUITE...]
#
# Three units are tested, each with every suite: blocks of 512 bytes on physical
# ones of 4096, of 512 on 512, and of 4096. The suite for read-only units runs on
# a read-only one, the one for several paths on two sessions to one unit. A test
# that CUnit counts as passed although it says [SKIPPED] is a skip here.
#
# Prints a line for each test that is not as scripts/conformance.txt has it, and
# ends with 1 when there is one; docs/conformance.md has the reasons for what
# fails or skips. --update writes that file anew. NTBAK names the program, KEEP a
# directory for the raw output.
set -euo pipefail
cd "$(dirname "$0")/.."

expected=scripts/conformance.txt
update=0
if [[ ${1:-} == --update ]]; then update=1; shift; fi
command -v iscsi-test-cu >/dev/null || { echo "iscsi-test-cu is missing: install libiscsi-bin" >&2; exit 2; }
if [[ -z ${NTBAK:-} ]]; then
    cargo build --quiet --locked
    NTBAK=target/debug/ntbak
fi

work=$(mktemp -d)
server=
cleanup() {
    [[ -z $server ]] || kill "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
raw=${KEEP:-$work/raw}
mkdir -p "$raw"

truncate -s 100M "$work"/{a,b,c,d}.img
"$NTBAK" target --listen 127.0.0.1:0 \
    --disk a="$work/a.img" \
    --disk b="$work/b.img",physical=512 \
    --disk c="$work/c.img",block=4096 \
    --disk d="$work/d.img",ro \
    --tape t="$work/t.tap",size=16M >"$work/urls" 2>"$work/log" &
server=$!
for _ in $(seq 100); do
    [[ $(wc -l <"$work/urls") -ge 5 ]] && break
    kill -0 "$server" 2>/dev/null || { cat "$work/log" >&2; exit 2; }
    sleep 0.1
done
base=$(head -1 "$work/urls" | cut -d' ' -f1)
base=${base%/*}

iscsi-test-cu --list 2>/dev/null | grep -E '^(SCSI|iSCSI)\.[^.]+\.[^.]+$' >"$work/all"
if [[ $# -gt 0 ]]; then
    suites=("$@")
else
    mapfile -t suites < <(cut -d. -f1,2 "$work/all" | uniq)
fi

# verdicts SUITE URL...: a line "TEST VERDICT" for each test of the suite.
verdicts() {
    local suite=$1 log; shift
    log="$raw/$suite.${1##*/}"
    timeout -k 5 90 iscsi-test-cu --dataloss --verbose --test "$suite" "$@" \
        >"$log" 2>&1 </dev/null || true
    awk -v suite="$suite" '
        function out(v) { if (test != "") print suite "." test, v; test = "" }
        /^  Test: / { out("hung"); test = $2; skipped = 0 }
        test != "" && /\[SKIPPED\]/ { skipped = 1 }
        test != "" && /(^|\.\.\.)passed/ { out(skipped ? "skip" : "pass") }
        test != "" && /(^|\.\.\.)FAILED/ { out("fail") }
        END { out("hung") }' "$log" >"$work/seen"
    # Every test of the suite has a line, also one that was never reached.
    grep -F "$suite." "$work/all" | while read -r t; do
        awk -v t="$t" '$1 == t { v = $2 } END { print t, (v == "" ? "norun" : v) }' "$work/seen"
    done
}

for suite in "${suites[@]}"; do
    case $suite in
        SCSI.ReadOnly*) verdicts "$suite" "$base/3" | awk '{ print $1, $2, $2, $2 }' ;;
        SCSI.MultipathIO*)
            for n in 0 1 2; do verdicts "$suite" "$base/$n" "$base/$n" >"$work/v$n"; done
            paste -d' ' "$work/v0" "$work/v1" "$work/v2" | awk '{ print $1, $2, $4, $6 }' ;;
        *)
            for n in 0 1 2; do verdicts "$suite" "$base/$n" >"$work/v$n"; done
            paste -d' ' "$work/v0" "$work/v1" "$work/v2" | awk '{ print $1, $2, $4, $6 }' ;;
    esac
done >"$work/result"

awk '{ n++; for (i = 2; i <= 4; i++) c[i, $i]++ }
    END {
        split("512/4096 512/512 4096/4096", unit)
        for (i = 2; i <= 4; i++)
            printf "%-10s %d tests: %d pass, %d fail, %d skip, %d neither\n", unit[i - 1], n,
                c[i, "pass"], c[i, "fail"], c[i, "skip"], c[i, "hung"] + c[i, "norun"]
    }' "$work/result"

kill "$server"
wait "$server" || { echo "ntbak target did not end well" >&2; cat "$work/log" >&2; exit 1; }
server=

if [[ $update == 1 ]]; then
    cp "$work/result" "$expected"
    exit 0
fi
awk 'FNR == NR { want[$1] = $2 " " $3 " " $4; next }
    want[$1] != $2 " " $3 " " $4 {
        print $1 ": found " $2 " " $3 " " $4 ", expected " (want[$1] == "" ? "nothing" : want[$1])
        bad = 1
    }
    END { exit bad }' "$expected" "$work/result"
