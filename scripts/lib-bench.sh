# shellcheck shell=bash
# Images (time and disk use of loads) and containers, measured in turn with podman, docker, and skopeo with umoci. For scripts/bench.
# Every tool has a store of its own in the work directory; each round does the same with each of them, one after the other.

# start_docker DIR: a daemon of its own, without a network; sets DOCKER (a command, as an array). Fails where there is none.
start_docker() {
  local _ driver=overlay2
  have dockerd && have docker || return 1
  mkdir -p "$1"
  # Limits that containers may have everywhere.
  printf '{"default-ulimits":{"nofile":{"Name":"nofile","Hard":1024,"Soft":1024},"nproc":{"Name":"nproc","Hard":1024,"Soft":1024}}}' >"$1/daemon.json"
  dockerd --config-file "$1/daemon.json" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" -H "unix://$1/sock" --storage-driver "$driver" \
    --iptables=false --ip6tables=false --bridge=none >"$1/log" 2>&1 &
  stop_at_exit $!
  DOCKER=(docker -H "unix://$1/sock")
  for _ in {1..200}; do
    ! "${DOCKER[@]}" version >/dev/null 2>&1 || return 0
    sleep 0.1
  done
  warn "dockerd does not answer; docker is left out: $(tail -n 1 "$1/log")"
  return 1
}

# built_release VAR: puts the folder of the programs to measure into VAR: MICA_BUILT, to compare one build with another, or made now.
built_release() {
  printf -v "$1" '%s' "${MICA_BUILT:-$(realpath -m "${CARGO_TARGET_DIR:-target}")/release}"
  [ -n "${MICA_BUILT:-}" ] || cargo build --release --workspace --quiet
}

# The figures so far: TOOL WORKLOAD -> milliseconds, separated by spaces; and their names in the order in which they came. The same of
# what a workload left on the disk, in KiB.
declare -A FIGURES=() DISK_USE=()
WORKLOADS=() TOOLS=()

# measure TOOL WORKLOAD COMMAND...: runs it once and keeps how long it took.
measure() {
  local took
  timed took "${@:3}"
  keep_figure "$1" "$2" "$took"
}

# keep_figure TOOL WORKLOAD MILLISECONDS
keep_figure() {
  local key="$1 $2"
  [[ " ${TOOLS[*]} " = *" $1 "* ]] || TOOLS+=("$1")
  [[ "|$(IFS='|' && printf '%s' "${WORKLOADS[*]}")|" = *"|$2|"* ]] || WORKLOADS+=("$2")
  FIGURES[$key]+=" $3"
  note "$2: $1 $3 ms"
}

# cell TOOL WORKLOAD: the median, or a dash.
cell() {
  # shellcheck disable=SC2086 # a list of numbers
  if [ -n "${FIGURES["$1 $2"]:-}" ]; then median ${FIGURES["$1 $2"]}; else echo -; fi
}

# on_disk PATH...: what these take on the disk of their filesystem, in KiB: blocks, hard links once, and nothing that is mounted in them.
on_disk() { du -skxc "$@" | awk 'END { print $1 }'; }

# keep_disk_use TOOL WORKLOAD BEFORE PATH...: what the workload added, in KiB, to the BEFORE that was there.
keep_disk_use() {
  local now
  sync # blocks of what waits to be written are not all given yet
  now=$(on_disk "${@:4}")
  DISK_USE["$1 $2"]+=" $((now - $3))"
  note "$2: $1 $((now - $3)) KiB on disk"
}

# disk_cell TOOL WORKLOAD: the median in MiB, or a dash.
disk_cell() {
  # shellcheck disable=SC2086 # a list of numbers
  if [ -n "${DISK_USE["$1 $2"]:-}" ]; then median ${DISK_USE["$1 $2"]} | awk '{ printf "%.1f", $1 / 1024 }'; else echo -; fi
}

# table FIGURE HEADING: a row for each workload and a column for each tool, with what the function FIGURE prints of both.
table() {
  local tool work best cells ours
  printf '| %s |%s mica / best other |\n|---|%s--:|\n' "$2" "$(printf ' %s |' "${TOOLS[@]}")" "$(printf -- '--:|%.0s' "${TOOLS[@]}")"
  for work in "${WORKLOADS[@]}"; do
    cells='' best=''
    ours=$("$1" mica "$work")
    for tool in "${TOOLS[@]}"; do
      cells+=" $("$1" "$tool" "$work") |"
      [ "$tool" = mica ] || [ "$("$1" "$tool" "$work")" = - ] || best+=" $("$1" "$tool" "$work")"
    done
    # shellcheck disable=SC2086 # a list of numbers
    best=$(printf '%s\n' $best | sort -n | head -n 1)
    printf '| %s |%s %s |\n' "$work" "$cells" "$(awk -v a="$ours" -v b="${best:-0}" 'BEGIN { if (a == "-" || b == 0) print "-"; else printf "%.2f", a / b }')"
  done
}

# results NAME ROUNDS: prints the medians as tables, and keeps them in tests/bench/results.
results() {
  local file=$REPO/tests/bench/results/$1.md commit
  commit=$(git -C "$REPO" describe --always --dirty 2>/dev/null || echo unknown)
  {
    printf '# %s\n\n' "$1"
    printf 'commit %s, kernel %s, %s x %s; milliseconds, medians of %s round(s); less is better.\n\n' "$commit" "$(uname -r)" "$(nproc)" \
      "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$2"
    table cell workload
    if [ ${#DISK_USE[@]} != 0 ]; then
      printf '\n## Disk use\n\nMiB on disk that the same loads added, medians; less is better. Each image alone, in an empty store: %s.\n\n' "$DISK_USE_MEANS"
      table disk_cell workload
    fi
  } | tee "$file"
  note "kept in ${file#"$REPO/"}"
}

# skopeo_umoci ARCHIVE DIR: what both do together to have the image's tree as directories.
skopeo_umoci() {
  local transport=docker-archive:
  case $1 in *.oci.tar*) transport=oci-archive: ;; esac
  skopeo copy --insecure-policy --quiet "$transport$1" "oci:$2/layout:image"
  umoci unpack --image "$2/layout:image" "$2/bundle"
}

# A gzip OCI archive is no form that docker before 25 reads; what a tool refuses has a dash.
docker_reads() { case $1 in docker.tar | docker.tar.gz) true ;; *) [ "$("${DOCKER[@]}" version --format '{{.Server.Version}}' | cut -d. -f1)" -ge 25 ] ;; esac; }

# docker_places: where docker's images lie: in its data root, or, with the image store of a containerd that it did not start, in that one's.
docker_places() {
  echo "$work/docker/data"
  case $("${DOCKER[@]}" info --format '{{.DriverStatus}}') in
  *io.containerd.snapshotter*) [ -d "$work/docker/data/containerd" ] || containerd config dump | sed -n "s/^root = ['\"]\(.*\)['\"]/\1/p" ;;
  esac
}

# What is counted for each tool, for the table.
DISK_USE_MEANS="mica's store; podman's graph root; docker's data root; the layout that skopeo makes and the directory that umoci unpacks"

# load_image TOOL WORKLOAD ARCHIVE: into an empty store of the tool, for time and disk use.
load_image() {
  local before places
  case $1 in
  mica)
    rm -rf "$work/mica" && mkdir "$work/mica" && sync
    before=$(on_disk "$work/mica")
    measure mica "$2" "$built/mica" --root "$work/mica" load -i "$3"
    keep_disk_use mica "$2" "$before" "$work/mica"
    ;;
  podman)
    quietly podman rmi -a -f && sync
    before=$(on_disk "$work/podman/graph")
    measure podman "$2" podman load -i "$3"
    keep_disk_use podman "$2" "$before" "$work/podman/graph"
    ;;
  docker)
    quietly "${DOCKER[@]}" system prune -a -f && sync
    mapfile -t places < <(docker_places)
    before=$(on_disk "${places[@]}")
    measure docker "$2" "${DOCKER[@]}" load -i "$3"
    keep_disk_use docker "$2" "$before" "${places[@]}"
    ;;
  skopeo+umoci)
    rm -rf "$work/unpacked" && mkdir "$work/unpacked" && sync
    before=$(on_disk "$work/unpacked")
    measure skopeo+umoci "$2" skopeo_umoci "$3" "$work/unpacked"
    keep_disk_use skopeo+umoci "$2" "$before" "$work/unpacked"
    ;;
  esac
}

bench_images() {
  local rounds=${1:-3} work='' built round stem image form tool docker='' images=("${@:2}")
  [ ${#images[@]} != 0 ] || images=(deb-app deep busybox)
  built_release built
  new_tmp work
  podman_settings "$work/podman"
  quietly podman info # makes its store
  if start_docker "$work/docker"; then docker=yes; fi
  for image in "${images[@]}"; do
    stem=$("$REPO/scripts/fixtures" "$image")
    for form in docker.tar oci.tar oci.tar.gz; do
      [ -e "$stem.$form" ] || continue
      cat "$stem.$form" >/dev/null # all read from the page cache
      for ((round = 1; round <= rounds; round++)); do
        for tool in mica podman docker skopeo+umoci; do
          [ "$tool" != docker ] || { [ -n "$docker" ] && docker_reads "$form"; } || continue
          load_image "$tool" "load $image.$form" "$stem.$form"
        done
      done
    done
  done
  results images "$rounds"
}

# What is done in a container before it is committed: a few thousand new files, some that are changed, some that go.
# shellcheck disable=SC2016 # the container's shell expands it
CHANGE='i=0; while [ $i -lt 2000 ]; do echo "$i" >/root/file-$i; i=$((i + 1)); done; for f in /etc/*.conf; do echo x >>"$f"; done; rm -rf /usr/share/doc'

mica_mount() { "$built/mica" --root "$work/mica" mount "$name" "$work/mnt"; }
mica_umount() { "$built/mica" --root "$work/mica" umount "$work/mnt"; }
podman_mount() { podman image mount "$name"; }
podman_umount() { podman image umount "$name"; }

bench_containers() {
  local rounds=${1:-5} work='' built round stem image name docker='' tool
  local -A on=()
  # The host's network, which is all that mica has, for the others, too.
  local -A network=([podman]="--network host" [docker]="--network host")
  cargo build --release --workspace --quiet
  built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
  new_tmp work
  mkdir "$work/mnt"
  podman_settings "$work/podman"
  if start_docker "$work/docker"; then docker=yes; fi
  for image in deb-app deep; do
    stem=$("$REPO/scripts/fixtures" "$image")
    name=localhost/$image:1
    quietly "$built/mica" --root "$work/mica" load -i "$stem.docker.tar"
    quietly podman load -i "$stem.docker.tar"
    on=([mica]="$built/mica --root $work/mica" [podman]="podman")
    if [ -n "$docker" ]; then
      quietly "${DOCKER[@]}" load -i "$stem.docker.tar"
      on[docker]=${DOCKER[*]}
    fi
    for ((round = 1; round <= rounds; round++)); do
      measure mica "$image: image mount" mica_mount
      quietly mica_umount
      measure podman "$image: image mount" podman_mount
      quietly podman_umount
      for tool in mica podman docker; do
        [ -n "${on[$tool]:-}" ] || continue
        # shellcheck disable=SC2206 # commands and their arguments
        local call=(${on[$tool]}) run=(${on[$tool]} run ${network[$tool]:-})
        measure "$tool" "$image: run --rm true" "${run[@]}" --rm "$name" true
        quietly "${run[@]}" --name work "$name" sh -c "$CHANGE"
        measure "$tool" "$image: diff" "${call[@]}" diff work
        measure "$tool" "$image: commit" "${call[@]}" commit work made:1
        quietly "${call[@]}" rm work
        quietly "${call[@]}" rmi made:1
      done
    done
  done
  results containers "$rounds"
}
