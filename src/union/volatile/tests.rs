use super::*;
use crate::sys::gate;
use crate::union::manners::Manners;
use crate::union::testing::Area;
use crate::union::testing::find;

fn mark(area: &Area) -> std::path::PathBuf {
    area.at("work/work/incompat/volatile")
}

#[test]
fn a_volatile_upper_is_taken_again_in_the_same_boot_only() {
    let area = Area::new();
    area.upper(true).unwrap().mark_volatile().unwrap();
    assert!(mark(&area).is_dir());
    // Synced, and trusted again.
    drop(area.upper(false).unwrap());
    assert!(!mark(&area).exists());

    area.upper(true).unwrap().mark_volatile().unwrap();
    for attribute in BOOT {
        drop(sys::xattr::set(
            sys::open::dir_path(&mark(&area)).unwrap(),
            attribute,
            b"an earlier one",
            SetMode::Replace,
        ));
    }
    for volatile in [true, false] {
        let refused = area.upper(volatile).unwrap_err().to_string();
        assert!(refused.contains("volatile") && refused.contains("work/work/incompat/volatile"), "{refused}");
    }
    // As containers/storage does, and who knows better.
    std::fs::remove_dir(mark(&area)).unwrap();
    drop(area.upper(true).unwrap());
}

#[test]
fn a_mark_of_the_kernel_and_an_unknown_feature_are_refused() {
    let area = Area::new();
    std::fs::create_dir_all(mark(&area)).unwrap();
    assert!(area.upper(true).is_err());
    std::fs::rename(mark(&area), mark(&area).with_file_name("novelty")).unwrap();
    assert!(area.upper(false).unwrap_err().to_string().contains("novelty"));
}

#[test]
fn a_loss_on_a_volatile_mount_is_told_from_then_on() {
    let area = Area::new();
    area.put("upper/f", "f");
    area.put("upper/g", "g");
    let mut upper = area.upper(true).unwrap();
    upper.mark_volatile().unwrap();
    let union = area.union_over(upper, Manners::default());
    let (f, g) = (find(&union, "f").unwrap(), find(&union, "g").unwrap());
    union.open(&f, true, false).unwrap();
    assert!(!union.never_syncs());
    union.fsync(&f, false).unwrap();
    let lost = |call: &gate::Call<'_>| (call.name == "sync_file_range").then_some(Errno::NOSPC);
    let told = gate::with_hook(lost, || union.fsync(&f, false));
    assert_eq!(told.unwrap_err().errno(), Errno::IO);
    for node in [&f, &g] {
        assert_eq!(union.fsync(node, false).unwrap_err().errno(), Errno::IO);
    }
}
