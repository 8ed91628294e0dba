# shellcheck shell=bash
# What memory serving takes: the server's own for each inode that the kernel has cached, and the page cache of many containers that read
# the same. For scripts/bench.

# server_of DIR: the process that serves the mount.
server_of() { "$built/mica" stats "$1" --json | sed -n 's/^ *"pid": *\([0-9]*\).*/\1/p' | head -n 1; }

# anonymous PID: bytes of memory that belong to this process alone.
anonymous() { awk '$1 == "RssAnon:" { printf "%.0f", $2 * 1024 }' "/proc/$1/status"; }

# settled PID: the same, when it changes no more (memory is given back some requests later).
settled() {
  local now last=-1 _
  for _ in {1..60}; do
    now=$(anonymous "$1")
    [ "$now" != "$last" ] || break
    last=$now
    sleep 1
  done
  printf '%s' "$now"
}

# memory_of_inodes DIRECTORIES: a walk over so many directories of 1000 files each, and then the kernel forgets them.
memory_of_inodes() {
  local dir pid base full after count=$(($1 * 1001)) names bytes
  note "making $(($1 * 1000)) files"
  for ((dir = 0; dir < $1; dir++)); do
    mkdir -p "$work/low/d$dir"
    (cd "$work/low/d$dir" && seq -f 'f%04g' 0 999 | xargs touch)
  done
  mkdir -p "$work"/{up,wk,mnt}
  "$work/fuse-overlayfs" -o "lowerdir=$work/low,upperdir=$work/up,workdir=$work/wk" "$work/mnt"
  pid=$(server_of "$work/mnt")
  find "$work/mnt/d0" -ls >/dev/null # what the first requests need has nothing to do with inodes
  base=$(settled "$pid")
  note "find -ls over them"
  [ "$(find "$work/mnt" -mindepth 1 -ls | wc -l)" = $count ] || die "find did not see them all"
  full=$(settled "$pid")
  # Their names take memory, too; the bar is without them.
  names=5 bytes=$(((full - base) / count))
  # A remount lets the kernel drop the names that nobody uses, of this filesystem alone; then it forgets the inodes.
  mount -i -o remount "$work/mnt"
  sync "$work/mnt"
  after=$(settled "$pid")
  umount "$work/mnt"
  memory_row "server, before" "$(mib "$base")" ""
  memory_row "server, $count inodes known after find -ls" "$(mib "$full")" ""
  memory_row "for each inode, its name of $names bytes with it" "$bytes B" "200 B"
  memory_row "server, when the kernel forgot them" "$(mib "$after")" "as before"
}

mib() { awk -v n="$1" 'BEGIN { printf "%.1f MiB", n / 1048576 }'; }
memory_row() { printf '| %s | %s | %s |\n' "$1" "$2" "$3" >>"$work/rows"; }

# The page cache of the whole machine, in bytes. Others change it, too: the figures below are apart by a factor of ten.
page_cache() { awk '$1 == "Cached:" || $1 == "Buffers:" { n += $2 } END { printf "%.0f", n * 1024 }' /proc/meminfo; }

# memory_of_readers SUBJECT: ten mounts of the same two layers, in each of which somebody reads a file of 200 MB.
memory_of_readers() {
  local n before
  for ((n = 0; n < 10; n++)); do
    mkdir -p "$work/ten/$n"/{up,wk,mnt}
    local options="lowerdir=$work/big,upperdir=$work/ten/$n/up,workdir=$work/ten/$n/wk"
    case $1 in
    overlayfs) mount -t overlay overlay -o "$options" "$work/ten/$n/mnt" ;;
    *) "$work/fuse-overlayfs" -o "$options,io=$1" "$work/ten/$n/mnt" ;;
    esac
  done
  # Nothing of the file itself is cached: it was written past the cache.
  dd if=/dev/zero of="$work/big/file" bs=1M count=200 oflag=direct status=none
  sync "$work/big/file"
  before=$(page_cache)
  for ((n = 0; n < 10; n++)); do cat "$work/ten/$n/mnt/file" >/dev/null; done
  memory_row "page cache, ten mounts read the same 200 MiB: ${2:-$1}" "$(mib $(($(page_cache) - before)))" "${3:-}"
  for ((n = 0; n < 10; n++)); do umount "$work/ten/$n/mnt"; done
  rm -rf "$work/ten" "$work/big/file"
}

bench_memory() {
  local work='' built directories=1000 file=$REPO/tests/bench/results/memory commit
  if [ "${1:-}" = --quick ]; then directories=100 file+=-quick; fi
  built_release built
  new_ext4 work 3 -N $((directories * 1100 + 10000))
  ln -s "$built/mount-mica" "$work/fuse-overlayfs"
  mkdir "$work/big"
  memory_of_inodes "$directories"
  memory_of_readers overlayfs "the kernel's overlayfs"
  memory_of_readers auto "mica"
  memory_of_readers passthrough "mica, io=passthrough" "about 200 MiB"
  commit=$(git describe --always --dirty 2>/dev/null || echo unknown)
  {
    printf '# Memory\n\ncommit %s, kernel %s.\n\n| what | measured | bar |\n|---|--:|--:|\n' "$commit" "$(uname -r)"
    cat "$work/rows"
  } | tee "$file.md"
  note "kept in ${file#"$REPO/"}.md"
}
