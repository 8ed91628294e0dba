# shellcheck shell=bash
# Where the time of real jobs goes, on the kernel's overlayfs and on mica: both processors are sampled while a job runs. For scripts/bench.

PROFILE_HZ=999

# profiled SUBJECT JOB: runs it once on a mount of its own. Puts how long it took into $took (ms), the requests that it waited for into
# $requests, and the samples into $work/samples.
profiled() {
  local script=JOB_${2//-/_} ops
  rm -f "$work/took" "$work/samples"
  jobs_mount "$1" || return 1
  sync
  # shellcheck disable=SC2016 # the inner shell expands it
  quietly perf record --quiet --all-cpus --call-graph fp --freq "$PROFILE_HZ" --event cpu-clock --output "$work/perf.data" -- \
    bash -c 'start=$EPOCHREALTIME; in_root "$1"; status=$?; end=$EPOCHREALTIME; echo $(((${end/./} - ${start/./}) / 1000)) >"$work/took"; exit $status' \
    - "${!script}" || {
    warn "$1: $2 failed, or was not sampled"
    unmount_below "$work/m"
    return 1
  }
  took=$(<"$work/took") requests=0
  case $1 in
  mica*)
    ops=$("$built/mica" stats --json "$work/m")
    # Nobody waits for these, nor for what is asked ahead.
    requests=$(jq '([.requests[] | select(.op | IN("forget", "release", "releasedir") | not) | .count] | add) - .ahead.requests' <<<"$ops")
    ;;
  esac
  umount "$work/m" 2>/dev/null || unmount_below "$work/m"
  perf script --input "$work/perf.data" --fields comm,time,ip,sym 2>/dev/null >"$work/samples"
}

# A sample is a line with the program's name and lines with its stack, the innermost first, and ends with an empty line. Prints seconds
# of a processor: of the job; of the server, and what of that is its own code, transport (taking requests and answering them, with
# waking who waits), and calls to the filesystem below; of what looks ahead; of the kernel's threads; and idle.
SHARES='
function has(pattern, i) { for (i = 1; i <= n; i++) if (stack[i] ~ pattern) return 1; return 0 }
function take() {
  if (comm ~ /^swapper/) return "idle"
  if (comm ~ /^mica-(ahead|plan|send|settle)/) return "ahead"
  if (comm ~ /^(kworker|ksoftirqd|jbd2|kswapd|kdamond|rcu_|migration|loop|kcompactd)/) return "threads"
  if (comm !~ /^(mica-fuse|mount-mica|fuse-overlayfs)/) return "job"
  if (has("^(fuse_dev_|fuse_uring_|io_uring_|__do_sys_io_uring)") || has("^(ksys_read|vfs_writev|do_writev)$")) return "transport"
  return has("^(do_syscall_64|entry_SYSCALL)") ? "below" : "own"
}
/^$/ { if (comm != "") count[take()]++; comm = ""; n = 0; next }
comm == "" { sub(/^ +/, ""); sub(/ +[0-9]+\.[0-9]+:.*/, ""); comm = $0; next }
{ stack[++n] = $2 }
END {
  if (comm != "") count[take()]++
  printf "%.2f %.2f %.2f %.2f %.2f %.2f %.2f\n", count["job"] / hz, count["own"] / hz, count["transport"] / hz, count["below"] / hz, count["ahead"] / hz, count["threads"] / hz, count["idle"] / hz
}'

bench_profile() {
  local work='' built job subject subjects=(overlayfs mica) took requests shares chosen=("$@") file=$REPO/tests/bench/results/profile.md
  [ ${#chosen[@]} != 0 ] || chosen=("${JOBS[@]}")
  for job in "${chosen[@]}"; do [ -n "${JOB_TITLES[$job]:-}" ] || die "no such job: $job (there are ${JOBS[*]})"; done
  have perf || die "perf is not installed: scripts/setup bench"
  built_release built
  new_ext4 work 6
  ln -s "$built/mount-mica" "$work/fuse-overlayfs"
  ! allow_io_uring || subjects+=(mica-io-uring)
  export work && export -f in_root
  jobs_place
  jobs_mount overlayfs && in_root "$JOB_tar" && umount "$work/m"
  [ $# = 0 ] || file=$work/profile.md
  {
    printf '# Where the time of the jobs goes\n\ncommit %s, kernel %s, %s x %s; each job once, sampled %s times a second on each processor (which slows ' \
      "$(git -C "$REPO" describe --always --dirty 2>/dev/null || echo unknown)" "$(uname -r)" "$(nproc)" \
      "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$PROFILE_HZ"
    printf 'all by about a tenth). Seconds: how long it took, and of all processors together what the job itself worked (system calls included; on the '
    printf "kernel's overlayfs also what that does below), what the server did, what looked ahead, the kernel's threads, and nobody. The server's is split into taking "
    printf 'and answering requests, calls to the filesystem below, and its own code. Requests: those that somebody waited for.\n\n'
    printf '| job | on | took | requests | job | server: transport | below | own code | ahead | threads | idle |\n|---|---|%s\n' "$(printf -- '--:|%.0s' {1..9})"
    for job in "${chosen[@]}"; do
      for subject in "${subjects[@]}"; do
        profiled "$subject" "$job" || continue
        read -r -a shares <<<"$(awk -v hz="$PROFILE_HZ" "$SHARES" "$work/samples")"
        printf '| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n' "${JOB_TITLES[$job]}" "$subject" "$(awk -v t="$took" 'BEGIN { printf "%.2f", t / 1000 }')" \
          "$requests" "${shares[0]}" "${shares[2]}" "${shares[3]}" "${shares[1]}" "${shares[4]}" "${shares[5]}" "${shares[6]}"
      done
    done
  } | tee "$file"
  case $file in "$REPO"/*) note "kept in ${file#"$REPO/"}" ;; esac
}
