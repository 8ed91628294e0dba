//! mica in the place of fuse-overlayfs: podman, buildah, dockerd and `mount.fuse3` from the distribution call it as they would call
//! that program, and what comes out is compared with the same steps on plain directories and on the kernel's overlay.
//!
//! As root everything runs in mount and process namespaces of its own, so that not one mount or process can stay behind; a copy of
//! `/dev/fuse` that everybody may open, and a user with subordinate ids, exist only in there. `MICA_FIXTURES` names the folder
//! of images; arguments choose tests by parts of their names.

mod archives;
mod argv;
mod clients;
mod docker;
mod images;
mod interop;
mod lab;
mod rootless;
mod stacks;
mod store;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use lab::Verdict;

type Test = (&'static str, fn() -> Verdict);

const TESTS: &[Test] = &[
    ("version_and_help", argv::version_and_help),
    ("the_callers_pipes_end_with_the_call", argv::pipes_end),
    ("odd_options_are_taken", argv::odd_options),
    ("what_must_fail_fails_with_1", argv::failures),
    ("only_lowerdir_is_read_only", argv::read_only),
    ("layers_128_and_500_by_relative_links", argv::many_layers),
    ("mount_fuse3_as_containerd_calls_it", argv::mount_fuse3),
    ("fstab_line_through_mount", argv::fstab),
    ("every_form_of_deletion_in_one_stack", interop::forms),
    ("upper_of_mica_shows_the_same_elsewhere", interop::mica_then_others),
    ("upper_of_others_shows_the_same_in_mica", interop::others_then_mica),
    ("upper_goes_back_and_forth", interop::back_and_forth),
    ("in_a_user_namespace", rootless::user_namespace),
    ("userxattr_layers_of_the_kernel", rootless::kernel_userxattr),
    ("a_user_through_fusermount", rootless::fusermount),
    ("podman_changes_and_commits", clients::podman_rootful),
    ("podman_builds", clients::podman_build),
    ("buildah_builds", clients::buildah_build),
    ("buildah_overlay_volume", clients::buildah_volume),
    ("podman_on_debian", clients::podman_debian),
    ("podman_rootless_changes_and_commits", rootless::podman),
    ("podman_rootless_builds", rootless::build),
    ("docker_changes_and_commits", docker::changes),
    ("docker_builds", docker::builds),
    ("images_to_docker_and_back", archives::docker),
    ("images_to_podman_and_back", archives::podman),
    ("images_to_skopeo_and_umoci_and_back", archives::skopeo_and_umoci),
    ("kept_blobs_keep_the_manifest", archives::kept_blobs),
    ("documents_by_the_oci_schemas", archives::schemas),
    ("generated_stacks_to_umoci_and_the_kernel", stacks::generated),
    ("real_images_to_umoci_and_the_kernel", stacks::real),
    ("docker_and_mica_say_the_same_of_images", images::docker_and_mica_say_the_same),
];

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    let words: Vec<_> = arguments.iter().filter_map(|a| a.to_str()).filter(|a| !a.starts_with('-')).collect();
    let wanted = TESTS.iter().filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word)));
    if let Err(e) = lab::enter() {
        println!("no namespaces of its own: {e}");
    }
    lab::run(wanted)
}
