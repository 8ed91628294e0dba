# shellcheck shell=bash
# What all scripts share: messages, temporary folders, and the cleaning up of everything a script started.
# Source it first: `. "$(dirname "$0")/lib.sh"`. It sets the shell's options and one EXIT trap.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export REPO
PROGRAM=$(basename "$0")

# Where finished fixture images are kept between runs (git-ignored); see scripts/fixtures.
MICA_FIXTURES=${MICA_FIXTURES:-$REPO/tests/fixtures/cache}
export MICA_FIXTURES

# shellcheck disable=SC2034 # BOLD is for those who source this
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'; else BOLD='' DIM='' RED='' PLAIN=''; fi

log() { printf '%s\n' "$*"; }
note() { printf '%s%s: %s%s\n' "$DIM" "$PROGRAM" "$*" "$PLAIN" >&2; }
warn() { printf '%s%s: %s%s\n' "$RED" "$PROGRAM" "$*" "$PLAIN" >&2; }
die() {
  warn "$*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }
require_root() { [ "$(id -u)" = 0 ] || die "must run as root (it installs packages, makes device nodes and mounts)"; }

# --- Cleaning up: temporary folders with whatever is mounted below them, and processes by their own id.
CLEANUP_DIRS=()
CLEANUP_PIDS=()

# new_tmp VAR [PARENT]: makes a temporary folder, removed at exit, and puts its path into VAR.
# (Not by a `$(...)`: a subshell could not register it.)
new_tmp() {
  local made
  # Small letters, since podman makes names of images of paths; short, since dockerd and podman make sockets deep below it.
  printf -v made '%s/mica-%s.%06x' "${2:-${TMPDIR:-/tmp}}" "$PROGRAM" $(((RANDOM << 9 ^ RANDOM) & 0xffffff))
  mkdir -m 700 "$made" || die "cannot make $made"
  CLEANUP_DIRS+=("$made")
  printf -v "$1" '%s' "$made"
}

# new_ext4 VAR GIB [MKFS-OPTION...]: a fresh, empty ext4 of that size in a file, its mountpoint put into VAR. In memory where there is
# room for it: then neither the disk nor what lies on it already is part of what is measured.
new_ext4() {
  # (Not `made`: new_tmp has a variable of that name, and would put the path into that.)
  local place='' room
  room=$(df --output=avail --block-size=1G /dev/shm 2>/dev/null | tail -n 1)
  if [ "${room:-0}" -gt "$2" ]; then new_tmp place /dev/shm; else new_tmp place; fi
  truncate -s "${2}G" "$place/image"
  quietly mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "${@:3}" "$place/image" || die "cannot make an ext4 in $place/image"
  mkdir "$place/fs"
  mount -o loop "$place/image" "$place/fs" || die "cannot mount $place/image"
  printf -v "$1" '%s' "$place/fs"
}

# stop_at_exit PID: the process is ended when the script ends.
stop_at_exit() { CLEANUP_PIDS+=("$1"); }

# mounts_below DIR: mount points at or below DIR, the deepest (and latest) first.
mounts_below() {
  local path
  while read -r _ _ _ _ path _; do
    printf -v path '%b' "${path//\\/\\0}" # mountinfo writes a space as \040
    case $path in "$1" | "$1"/*) printf '%s\n' "$path" ;; esac
  done </proc/self/mountinfo | tac
}

# unmount_below DIR: lazily, so that a hanging server cannot hang the script.
unmount_below() {
  local point
  while IFS= read -r point; do umount -l "$point" 2>/dev/null || warn "cannot unmount $point"; done < <(mounts_below "$1")
}

# stop_pid PID: TERM, up to two seconds, then KILL.
stop_pid() {
  local _
  kill -TERM "$1" 2>/dev/null || return 0
  for _ in {1..20}; do
    kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$1" 2>/dev/null || true
}

# allow_io_uring: FUSE servers may take requests over io_uring until the script ends; fails where the kernel has no such parameter.
IO_URING=/sys/module/fuse/parameters/enable_uring IO_URING_BEFORE=''
allow_io_uring() {
  local before
  { read -r before <"$IO_URING"; } 2>/dev/null || return 1
  { echo Y >"$IO_URING"; } 2>/dev/null || return 1
  IO_URING_BEFORE=${IO_URING_BEFORE:-$before}
}

cleanup() {
  local status=$? pid dir
  trap - EXIT
  [ -z "$IO_URING_BEFORE" ] || echo "$IO_URING_BEFORE" >"$IO_URING" || warn "left as it is: $IO_URING"
  for pid in ${CLEANUP_PIDS[@]+"${CLEANUP_PIDS[@]}"}; do stop_pid "$pid"; done
  for dir in ${CLEANUP_DIRS[@]+"${CLEANUP_DIRS[@]}"}; do
    unmount_below "$dir"
    rm -rf --one-file-system "$dir" 2>/dev/null || warn "left behind: $dir"
  done
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# quietly COMMAND...: its output is shown only when it fails.
quietly() {
  local out status=0
  out=$(mktemp)
  "$@" >"$out" 2>&1 </dev/null || status=$?
  if [ $status != 0 ]; then
    warn "failed ($status): $*"
    cat "$out" >&2
  fi
  rm -f "$out"
  return $status
}
