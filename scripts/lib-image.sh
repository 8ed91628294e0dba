# shellcheck shell=bash
# Makes container images by hand, from layer tars, with tar and sha256sum only: no code of mica takes part, so that the
# tests have something independent to compare with. Sourced after lib.sh.
#
# An image under construction is a folder WORK with
#   layer.tar.list   one line per layer, bottom first: FILE.tar <tab> what made it (shown by `mica history`)
#   *.tar            the layers
# `layer_from_tree WORK TREE TEXT` adds a layer, `pack_docker`, `pack_oci` and friends write archives of it, and
# `flatten WORK DIR` applies the layers to a plain directory: the truth.

IMAGE_TIME=2024-05-06T07:08:09.123456789Z
IMAGE_CMD='["/bin/sh"]' # as JSON; a recipe may set another

sha256_of() { sha256sum <"$1" | cut -d' ' -f1; }

# tar_tree TREE FILE.tar: owners as numbers, times to the nanosecond, every extended attribute, names in a fixed order.
tar_tree() {
  (cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z | sed -z 's,^\./,,') |
    tar -C "$1" --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --xattrs --xattrs-include='*' \
      --no-recursion --null --verbatim-files-from -T - -cf "$2"
}

# add_layer WORK FILE.tar TEXT: records a finished tar (which lies in WORK) as the next layer.
add_layer() { printf '%s\t%s\n' "$2" "$3" >>"$1/layer.tar.list"; }

# layer_from_tree WORK TREE TEXT
layer_from_tree() {
  local number
  touch "$1/layer.tar.list"
  number=$(printf '%03d' "$(($(wc -l <"$1/layer.tar.list") + 1))")
  tar_tree "$2" "$1/$number.tar"
  add_layer "$1" "$number.tar" "$3"
}

architecture() {
  case $(uname -m) in x86_64) echo amd64 ;; aarch64) echo arm64 ;; *) uname -m ;; esac
}

# write_config WORK: the image's config document, config.json.
write_config() {
  local file text ids='' history=''
  while IFS=$'\t' read -r file text; do
    ids+=",\"sha256:$(sha256_of "$1/$file")\""
    history+=",{\"created\":\"$IMAGE_TIME\",\"created_by\":\"$text\"}"
  done <"$1/layer.tar.list"
  printf '{"created":"%s","author":"mica fixtures","architecture":"%s","os":"linux","config":{"Env":["PATH=%s"],"Cmd":%s},' \
    "$IMAGE_TIME" "$(architecture)" /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$IMAGE_CMD" >"$1/config.json"
  printf '"rootfs":{"type":"layers","diff_ids":[%s]},"history":[%s]}' "${ids#,}" "${history#,}" >>"$1/config.json"
}

# pack_docker WORK NAME:TAG OUT: docker-archive as podman save writes it (layers first, manifest.json last).
pack_docker() {
  local file id names=() layers='' dir=$1/docker config
  rm -rf "$dir" && mkdir "$dir"
  config=$(sha256_of "$1/config.json")
  while IFS=$'\t' read -r file _; do
    id=$(sha256_of "$1/$file")
    ln -f "$1/$file" "$dir/$id.tar"
    names+=("$id.tar") && layers+=",\"$id.tar\""
  done <"$1/layer.tar.list"
  ln "$1/config.json" "$dir/$config.json"
  printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":[%s]}]' "$config" "$2" "${layers#,}" >"$dir/manifest.json"
  mapfile -t names < <(printf '%s\n' "${names[@]}" | awk '!seen[$0]++') # equal layers are stored once
  tar -C "$dir" --format=ustar --owner=0 --group=0 --hard-dereference -cf "$3" "${names[@]}" "$config.json" manifest.json
}

# pack_docker_old WORK NAME:TAG OUT: docker-archive as docker up to 24 saves it: ID/{VERSION,json,layer.tar}, repositories.
pack_docker_old() {
  local file id parent='' layers='' dir=$1/docker-old config
  rm -rf "$dir" && mkdir "$dir"
  config=$(sha256_of "$1/config.json")
  while IFS=$'\t' read -r file _; do
    id=$(printf '%s %s' "$parent" "$(sha256_of "$1/$file")" | sha256sum | cut -d' ' -f1)
    mkdir "$dir/$id"
    ln "$1/$file" "$dir/$id/layer.tar"
    printf '1.0' >"$dir/$id/VERSION"
    printf '{"id":"%s"%s,"os":"linux"}' "$id" "${parent:+,\"parent\":\"$parent\"}" >"$dir/$id/json"
    layers+=",\"$id/layer.tar\"" parent=$id
  done <"$1/layer.tar.list"
  ln "$1/config.json" "$dir/$config.json"
  printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":[%s]}]\n' "$config" "$2" "${layers#,}" >"$dir/manifest.json"
  printf '{"%s":{"%s":"%s"}}\n' "${2%:*}" "${2##*:}" "$parent" >"$dir/repositories"
  tar -C "$dir" --format=ustar --owner=0 --group=0 --hard-dereference -cf "$3" .
}

# blob DIR FILE: moves FILE to its place by digest; prints `"digest":"sha256:..","size":N`.
blob() {
  local id size
  id=$(sha256_of "$2") size=$(stat -c %s "$2")
  mv "$2" "$1/blobs/sha256/$id"
  printf '"digest":"sha256:%s","size":%s' "$id" "$size"
}

# oci_layout WORK NAME:TAG DIR gzip|zstd|none: an OCI image layout as a directory.
oci_layout() {
  local file layers='' suffix descriptor
  case $4 in gzip) suffix=+gzip ;; zstd) suffix=+zstd ;; none) suffix='' ;; esac
  rm -rf "$3" && mkdir -p "$3/blobs/sha256"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$3/oci-layout"
  while IFS=$'\t' read -r file _; do
    case $4 in
    gzip) gzip -n -1 <"$1/$file" >"$3/tmp" ;;
    zstd) zstd -q -3 <"$1/$file" >"$3/tmp" ;;
    none) cp "$1/$file" "$3/tmp" ;;
    esac
    layers+=",{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar$suffix\",$(blob "$3" "$3/tmp")}"
  done <"$1/layer.tar.list"
  cp "$1/config.json" "$3/tmp"
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",' >"$3/manifest"
  printf '"config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[%s]}' "$(blob "$3" "$3/tmp")" "${layers#,}" \
    >>"$3/manifest"
  descriptor="\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",$(blob "$3" "$3/manifest")"
  printf '{"schemaVersion":2,"manifests":[{%s,"annotations":{"org.opencontainers.image.ref.name":"%s"}}]}' "$descriptor" "${5:-$2}" \
    >"$3/index.json"
}

# pack_oci WORK NAME:TAG OUT gzip|zstd|none: oci-archive.
pack_oci() {
  oci_layout "$1" "$2" "$1/oci" "$4"
  tar -C "$1/oci" --format=ustar --owner=0 --group=0 -cf "$3" blobs index.json oci-layout
  rm -rf "$1/oci"
}

# pack_docker25 WORK NAME:TAG OUT: as docker from 25 on saves: an OCI layout that has a manifest.json, too.
pack_docker25() {
  local file layers='' dir=$1/docker25
  oci_layout "$1" "$2" "$dir" none "${2##*:}"
  while IFS=$'\t' read -r file _; do layers+=",\"blobs/sha256/$(sha256_of "$1/$file")\""; done <"$1/layer.tar.list"
  printf '[{"Config":"blobs/sha256/%s","RepoTags":["%s"],"Layers":[%s]}]' "$(sha256_of "$1/config.json")" "$2" "${layers#,}" \
    >"$dir/manifest.json"
  tar -C "$dir" --format=ustar --owner=0 --group=0 -cf "$3" blobs index.json manifest.json oci-layout
  rm -rf "$dir"
}

# layers_of DOCKER_ARCHIVE WORK: takes a docker-archive apart into an image under construction (without texts).
layers_of() {
  local name number=0
  mkdir -p "$2/apart"
  tar -C "$2/apart" -xf "$1"
  while IFS= read -r name; do
    number=$((number + 1))
    ln -f "$(realpath "$2/apart/$name")" "$2/$(printf '%03d' $number).tar"
    add_layer "$2" "$(printf '%03d' $number).tar" ''
  done < <(grep -o '"Layers":\[[^]]*\]' "$2/apart/manifest.json" | grep -o '[^"]*\.tar')
}

# flatten WORK DIR: applies the layers, bottom first, by the rules of the OCI layer specification: whiteouts and opaque
# marks act on what lies below, then the layer's own entries are laid over it.
flatten() {
  local file
  mkdir -p "$2"
  while IFS=$'\t' read -r file _; do
    apply_marks "$1/$file" "$2"
    # Directories' times last of all: the entries of "a-b" lie between "a" and "a/c".
    tar -C "$2" --numeric-owner --same-owner -p --xattrs --xattrs-include='*' --delay-directory-restore --warning=no-timestamp \
      --exclude='.wh.*' -xf "$1/$file"
  done <"$1/layer.tar.list"
}

# apply_marks LAYER.tar DIR: removes from DIR what the layer deletes, or replaces by something that is no directory.
apply_marks() {
  local entry dir base
  [ -n "$(ls -A "$2")" ] || return 0
  while IFS= read -r entry; do
    entry=${entry#./} dir=.
    case $entry in */*) dir=${entry%/*} ;; esac
    base=${entry##*/}
    case $base in
    '') continue ;; # a directory's own entry
    .wh..wh..opq) [ ! -d "$2/$dir" ] || find "$2/$dir" -xdev -mindepth 1 -delete ;;
    .wh.*) rm -rf --one-file-system "${2:?}/$dir/${base#.wh.}" ;;
    *) if [ -d "$2/$entry" ] && [ ! -L "$2/$entry" ]; then rm -rf --one-file-system "${2:?}/$entry"; fi ;;
    esac
  done < <(tar --quoting-style=literal -tf "$1")
}

# listing DIR: every entry with its attributes, to compare two trees made by different tools.
listing() {
  (
    cd "$1" || exit
    find . -mindepth 1 -type d -printf '%p|d|%m|%U:%G|%T@\n' -o -mindepth 1 -printf '%p|%y|%m|%U:%G|%T@|%s|%l\n' | LC_ALL=C sort
    same_files
    find . -mindepth 1 -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum
    find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} + | LC_ALL=C sort
    getfattr -R -P -h -d -m - -e hex . 2>/dev/null | LC_ALL=C sort
  )
}

# same_files: the names below the current folder that are hard links of each other: each with the first of its group. (Not
# the number of links: of a file whose other name an upper layer hides, a union still shows the lower layer's number.)
same_files() {
  local inode path
  local -A first=()
  while IFS=$'\t' read -r -d '' path inode; do
    if [ -n "${first[$inode]:-}" ]; then printf '%s = %s\n' "$path" "${first[$inode]}"; else first[$inode]=$path; fi
  done < <(find . -mindepth 1 ! -type d -links +1 -printf '%p\t%i\0' | LC_ALL=C sort -z)
}

# check_against_umoci WORK DIR: the same image unpacked by umoci must be the same tree. Skipped, with a word, without umoci.
check_against_umoci() {
  have umoci || {
    note "umoci is not installed: the flattened tree is not cross-checked"
    return 0
  }
  oci_layout "$1" check:1 "$1/check" gzip 1
  quietly umoci unpack --image "$1/check:1" "$1/bundle"
  listing "$2" >"$1/mine.txt"
  listing "$1/bundle/rootfs" >"$1/umoci.txt"
  diff "$1/mine.txt" "$1/umoci.txt" >"$1/diff.txt" || {
    head -40 "$1/diff.txt" >&2
    die "umoci unpacks this image to another tree"
  }
  rm -rf "$1/check" "$1/bundle"
}
