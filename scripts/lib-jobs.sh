# shellcheck shell=bash
# Real jobs on the union, beside a plain directory, the kernel's overlayfs and both fuse-overlayfs. For scripts/bench.
# Each job runs in a chroot on a fresh upper above two layers (debootstrap's base, and the tools of scripts/fixtures jobs), on a fresh
# ext4 in memory, in namespaces of its own, so that nothing that it starts outlives it.

# The jobs in the order in which they run: NAME, and below JOB_NAME is the shell inside the chroot. They end with an error when what they
# made is not there: a job that does nothing would be fast.
JOBS=(apt-install git unpack configure compile python npm sqlite pgbench tar rsync)
declare -A JOB_TITLES=(
  [apt-install]="apt-get install of vim and nginx"
  [git]="git clone, status, checkout, status"
  [unpack]="unpacking two source trees, 5 times"
  [configure]="./configure of hello"
  [compile]="make -j2 of lua"
  [python]="python importing its whole library, 3 times"
  [npm]="npm install of 80 local modules"
  [sqlite]="SQLite: 300 commits, a load, an index"
  [pgbench]="PostgreSQL: initdb, pgbench -i, 1000 transactions"
  [tar]="tar c of the image"
  [rsync]="rsync -a of many small files, and again"
)
# shellcheck disable=SC2016,SC2034 # the shell inside expands them; they are used by name
{
  JOB_apt_install='
export DEBIAN_FRONTEND=noninteractive
apt-get install -y --no-install-recommends -o APT::Sandbox::User=root /jobs/debs/*.deb </dev/null
dpkg -s nginx-light vim >/dev/null'
  JOB_git='
git clone -q /jobs/repository.git /work/clone && cd /work/clone
[ -z "$(git status --porcelain)" ] && git checkout -q other && [ -z "$(git status --porcelain)" ] && [ -d moved ]'
  JOB_unpack='
for i in 1 2 3 4 5; do
  mkdir -p /work/$i
  tar -C /work/$i -xf /jobs/source/hello_*.orig.tar.gz
  tar -C /work/$i -xf /jobs/source/lua5.4_*.orig.tar.gz
done
[ -x /work/5/hello-*/configure ]'
  JOB_configure='
tar -C /work -xf /jobs/source/hello_*.orig.tar.gz && cd /work/hello-* && FORCE_UNSAFE_CONFIGURE=1 ./configure --disable-nls >/dev/null && [ -s Makefile ]'
  JOB_compile='
tar -C /work -xf /jobs/source/lua5.4_*.orig.tar.gz && cd /work/lua-* && make -j2 linux >/dev/null && ./src/lua -v'
  JOB_python='
cat >/work/imports.py <<END
import importlib, sys
done = 0
for name in sorted(sys.stdlib_module_names) + ["setuptools", "pkg_resources", "pip._internal.cli.main"]:
    if name in ("antigravity", "this", "idlelib", "turtle"): continue
    try:
        importlib.import_module(name)
        done += 1
    except ImportError:
        pass
assert done > 200, done
END
for i in 1 2 3; do python3 /work/imports.py; done'
  JOB_npm='
cd /work && echo "{}" >package.json
npm install --offline --ignore-scripts --no-audit --no-fund --legacy-peer-deps --silent $(ls -d /jobs/npm/*.tgz | head -n 80)
[ "$(ls node_modules | wc -l)" -gt 50 ]'
  JOB_sqlite='
cat >/work/load.py <<END
import sqlite3
db = sqlite3.connect("/work/base.sqlite")
db.execute("create table t (id integer primary key, name text, value real)")
for i in range(300):
    with db: db.execute("insert into t values (?, ?, ?)", (i, "name %d" % i, i / 3))
with db: db.executemany("insert into t values (?, ?, ?)", ((i, "name %d" % (i * 7919 % 100003), i / 3) for i in range(300, 100000)))
with db: db.execute("create index n on t (name)")
assert db.execute("select count(*) from t where name > ?", ("name 5",)).fetchone()[0] > 1000
END
python3 /work/load.py'
  JOB_pgbench='
chown postgres /work
cat >/work/run <<END
set -e
PATH=$(echo /usr/lib/postgresql/*/bin):/usr/bin:/bin
cd /work
initdb -D data -A trust --locale=C >/dev/null
pg_ctl -D data -o "-c unix_socket_directories=/work -c listen_addresses=" -l log -w start >/dev/null
createdb -h /work bench
pgbench -h /work -q -i -s 2 bench 2>/dev/null
pgbench -h /work -c 2 -t 500 bench | grep -q "actually processed: 1000/1000"
pg_ctl -D data -w stop >/dev/null
END
setpriv --reuid=postgres --regid=postgres --clear-groups sh /work/run'
  JOB_tar='tar -c --one-file-system / 2>/dev/null | cat >/dev/null'
  JOB_rsync='
mkdir /work/copy && rsync -a /usr/share/nodejs/ /work/copy/ && [ -z "$(rsync -a --itemize-changes /usr/share/nodejs/ /work/copy/)" ]'
}

# jobs_place: the layers, and what the plain directory is copied from.
jobs_place() {
  "$REPO/scripts/fixtures" jobs >/dev/null
  [ -e "$MICA_FIXTURES/debian-base.tar" ] || die "debian-base.tar is gone from $MICA_FIXTURES: remove jobs.ok there to make both anew"
  mkdir "$work"/{base,tools,m,plain}
  tar -C "$work/base" --numeric-owner --xattrs --xattrs-include='*' -xpf "$MICA_FIXTURES/debian-base.tar"
  tar -C "$work/tools" --numeric-owner --xattrs --xattrs-include='*' -xpf "$MICA_FIXTURES/jobs.tools.tar"
  # Inside a job /dev is the machine's: the union shows devices of others as what they are, but may be mounted without them.
  mkdir -p "$work"/tools/{work,proc,dev}
}

# jobs_mount SUBJECT: shows the layers at $work/m with an upper of its own.
jobs_mount() {
  local options="lowerdir=$work/tools:$work/base,upperdir=$work/u/up,workdir=$work/u/wk"
  # As mica mounts its own containers.
  local own=redirect_dir=on,metacopy=on,copy_up=blocks
  rm -rf "$work/u" && mkdir -p "$work"/u/{up,wk}
  case $1 in
  plain)
    mount -t overlay overlay -o "$options" "$work/m"
    rm -rf "$work/plain" && mkdir "$work/plain" && cp -a "$work/m/." "$work/plain"
    umount "$work/m"
    mount --bind "$work/plain" "$work/m"
    ;;
  overlayfs) mount -t overlay overlay -o "$options" "$work/m" ;;
  fuse-overlayfs-1) fuse-overlayfs -o "$options" "$work/m" ;;
  fuse-overlayfs-2) "$newest" -o "$options" "$work/m" ;;
  mica) "$work/fuse-overlayfs" -o "$options,$own,io_uring=0" "$work/m" ;;
  mica-passthrough) "$work/fuse-overlayfs" -o "$options,$own,io_uring=0,io=passthrough" "$work/m" ;;
  mica-io-uring) "$work/fuse-overlayfs" -o "$options,$own,io_uring=1" "$work/m" ;;
  esac
}

# in_root TEXT: runs it in the chroot; when it ends, so does all that it started.
# shellcheck disable=SC2016 # the shell inside expands it
in_root() {
  unshare --mount --pid --fork --kill-child sh -ec 'mount --rbind /dev "$1/dev"; mount -t proc proc "$1/proc"
    exec chroot "$1" /usr/bin/env -i HOME=/root LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin /bin/bash -euc "$2"' - "$work/m" "$1"
}

# one_job SUBJECT JOB: once, on a mount of its own; what fails is said, and has a dash in the table.
one_job() {
  local script=JOB_${2//-/_} start end
  if ! jobs_mount "$1"; then
    warn "$1 cannot be mounted"
    return
  fi
  sync
  start=$EPOCHREALTIME
  if quietly in_root "${!script}"; then
    end=$EPOCHREALTIME
    keep_figure "$1" "${JOB_TITLES[$2]}" $(((${end/./} - ${start/./}) / 1000))
  fi
  umount "$work/m" 2>/dev/null || unmount_below "$work/m"
}

# jobs_results FILE ROUNDS: medians and ratios to the kernel's overlayfs as a table (FILE.md), and every figure as JSON (FILE.json).
jobs_results() {
  local file=$1 job tool cells commit machine kernel value bar=1.25
  commit=$(git -C "$REPO" describe --always --dirty 2>/dev/null || echo unknown)
  machine="$(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(awk '/^MemTotal/ { print $2, $3 }' /proc/meminfo)"
  {
    printf '# Real jobs\n\ncommit %s, kernel %s, %s; medians of %s round(s), and as multiples of the kernel'"'"'s overlayfs; less is better. ' \
      "$commit" "$(uname -r)" "$machine" "$2"
    printf 'The bar: mica at %s or less in each.\n\n| job |%s\n|---|%s\n' $bar "$(printf ' %s |' "${TOOLS[@]}")" "$(printf -- '--:|%.0s' "${TOOLS[@]}")"
    for job in "${WORKLOADS[@]}"; do
      cells=''
      kernel=$(cell overlayfs "$job")
      for tool in "${TOOLS[@]}"; do
        value=$(cell "$tool" "$job")
        cells+=" $(awk -v a="$value" -v b="$kernel" 'BEGIN {
          if (a == "-") print "fails"; else if (b == "-") printf "%.2f s", a / 1000; else printf "%.2f s, %.2f", a / 1000, a / b }') |"
      done
      printf '| %s |%s\n' "$job" "$cells"
    done
    cells=''
    for tool in "${TOOLS[@]}"; do cells+=" $(for job in "${WORKLOADS[@]}"; do printf '%s %s\n' "$(cell "$tool" "$job")" "$(cell overlayfs "$job")"; done |
      awk '$1 != "-" && $2 != "-" { sum += log($1 / $2); n++ } END { if (n) printf "%.2f", exp(sum / n); else print "-" }') |"; done
    printf '| geometric mean |%s\n' "$cells"
  } | tee "$file.md"
  {
    printf '{\n  "run": { "benchmark": "jobs", "commit": "%s", "rounds": %s, "kernel": "%s", "machine": "%s" },\n  "unit": "ms",\n  "results": [\n' \
      "$commit" "$2" "$(uname -r)" "$machine"
    for job in "${WORKLOADS[@]}"; do
      cells=''
      for tool in "${TOOLS[@]}"; do
        value=${FIGURES["$tool $job"]:-}
        value=${value# }
        cells+=", \"$tool\": [${value// /, }]"
      done
      printf '    { "job": "%s", "values": { %s } }' "$job" "${cells#, }"
      [ "$job" = "${WORKLOADS[-1]}" ] && echo || echo ,
    done
    printf '  ]\n}\n'
  } >"$file.json"
  case $file in "$REPO"/*) note "kept in ${file#"$REPO/"}.md and .json" ;; esac
}

bench_jobs() {
  local rounds=3 form='' work='' newest='' built round job turn subjects=(plain overlayfs fuse-overlayfs-1) chosen=()
  if [ "${1:-}" = --quick ]; then
    rounds=1 form=-quick chosen=(git configure compile python sqlite tar)
    shift
  fi
  if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    rounds=$1
    shift
  fi
  [ $# = 0 ] || chosen=("$@")
  [ ${#chosen[@]} != 0 ] || chosen=("${JOBS[@]}")
  for job in "${chosen[@]}"; do [ -n "${JOB_TITLES[$job]:-}" ] || die "no such job: $job (there are ${JOBS[*]})"; done
  built_release built
  newest_fuse_overlayfs newest
  new_ext4 work 6
  ln -s "$built/mount-mica" "$work/fuse-overlayfs"
  [ -z "$newest" ] || subjects+=(fuse-overlayfs-2)
  subjects+=(mica mica-passthrough)
  ! allow_io_uring || subjects+=(mica-io-uring)
  TOOLS=("${subjects[@]}")
  fuse_versions "$newest"
  jobs_place
  for job in "${chosen[@]}"; do WORKLOADS+=("${JOB_TITLES[$job]}"); done
  # Once for nothing: then what the layers hold is in memory for the first subject as for the last.
  jobs_mount overlayfs && in_root "$JOB_tar" && umount "$work/m"
  for ((round = 1; round <= rounds; round++)); do
    for job in "${chosen[@]}"; do
      # Another first one each time.
      for turn in "${!subjects[@]}"; do one_job "${subjects[(turn + round) % ${#subjects[@]}]}" "$job"; done
    done
  done
  # A choice of jobs is looked at, not kept.
  if [ $# = 0 ]; then jobs_results "$REPO/tests/bench/results/jobs$form" "$rounds"; else jobs_results "$work/jobs" "$rounds"; fi
}
