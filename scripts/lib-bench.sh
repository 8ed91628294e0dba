# shellcheck shell=bash
# Images and containers, measured in turn with podman, docker, and skopeo with umoci. For scripts/bench.
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

# The figures so far: TOOL WORKLOAD -> milliseconds, separated by spaces; and their names in the order in which they came.
declare -A FIGURES=()
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

# results NAME ROUNDS: prints the medians as a table, and keeps it in tests/bench/results.
results() {
  local tool work best cells ours file=$REPO/tests/bench/results/$1.md commit
  commit=$(git -C "$REPO" describe --always --dirty 2>/dev/null || echo unknown)
  {
    printf '# %s\n\n' "$1"
    printf 'commit %s, kernel %s, %s x %s; milliseconds, medians of %s round(s); less is better.\n\n' "$commit" "$(uname -r)" "$(nproc)" \
      "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$2"
    printf '| workload |%s mica / best other |\n|---|%s--:|\n' "$(printf ' %s |' "${TOOLS[@]}")" "$(printf -- '--:|%.0s' "${TOOLS[@]}")"
    for work in "${WORKLOADS[@]}"; do
      cells='' best=''
      ours=$(cell mica "$work")
      for tool in "${TOOLS[@]}"; do
        cells+=" $(cell "$tool" "$work") |"
        [ "$tool" = mica ] || [ "$(cell "$tool" "$work")" = - ] || best+=" $(cell "$tool" "$work")"
      done
      # shellcheck disable=SC2086 # a list of numbers
      best=$(printf '%s\n' $best | sort -n | head -n 1)
      printf '| %s |%s %s |\n' "$work" "$cells" "$(awk -v a="$ours" -v b="${best:-0}" 'BEGIN { if (a == "-" || b == 0) print "-"; else printf "%.2f", a / b }')"
    done
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

bench_images() {
  local rounds=${1:-3} work='' built round stem image form docker='' images=("${@:2}")
  [ ${#images[@]} != 0 ] || images=(deb-app deep busybox)
  cargo build --release --workspace --quiet
  built=$(realpath -m "${CARGO_TARGET_DIR:-target}")/release
  new_tmp work
  podman_settings "$work/podman"
  if start_docker "$work/docker"; then docker=yes; fi
  for image in "${images[@]}"; do
    stem=$("$REPO/scripts/fixtures" "$image")
    for form in docker.tar oci.tar oci.tar.gz; do
      [ -e "$stem.$form" ] || continue
      cat "$stem.$form" >/dev/null # all read from the page cache
      for ((round = 1; round <= rounds; round++)); do
        rm -rf "$work/mica" && sync
        measure mica "load $image.$form" "$built/mica" --root "$work/mica" load -i "$stem.$form"
        quietly podman rmi -a -f && sync
        measure podman "load $image.$form" podman load -i "$stem.$form"
        if [ -n "$docker" ] && docker_reads "$form"; then
          quietly "${DOCKER[@]}" system prune -a -f && sync
          measure docker "load $image.$form" "${DOCKER[@]}" load -i "$stem.$form"
        fi
        rm -rf "$work/unpacked" && mkdir "$work/unpacked" && sync
        measure skopeo+umoci "load $image.$form" skopeo_umoci "$stem.$form" "$work/unpacked"
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
