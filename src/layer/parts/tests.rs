use proptest::prelude::*;

use super::*;

fn parts(blocks: &[u32]) -> Parts {
    Parts::default().with(blocks)
}

#[test]
fn what_nobody_defined_is_refused() {
    let sound = parts(&[1, 2]).print();
    assert_eq!(Parts::parse(&sound), Some(parts(&[1, 2])));
    let too_many = [&HEAD[..], &[7; 4 * (MOST + 1)]].concat();
    let twice = [&HEAD[..], &[1, 0, 0, 0, 1, 0, 0, 0]].concat();
    for value in [&sound[..sound.len() - 1], b"", b"x\0\0\0", &too_many, &twice] {
        assert_eq!(Parts::parse(value), None, "{value:?}");
    }
}

#[test]
fn a_run_ends_where_the_other_file_begins() {
    let (here, base) = (parts(&[1, 2, 4]), 5 * BLOCK + 7);
    assert_eq!(here.run(0, base), (false, BLOCK));
    assert_eq!(here.run(BLOCK + 9, base), (true, 3 * BLOCK));
    assert_eq!(here.run(3 * BLOCK, base), (false, 4 * BLOCK));
    assert_eq!(here.run(5 * BLOCK, base), (false, base), "the last block is not here");
    assert_eq!(here.run(base, base), (true, u64::MAX), "what lies behind the base is");
    assert_eq!(parts(&[5]).run(5 * BLOCK, base), (true, u64::MAX), "and goes on from the last block");
}

#[test]
fn a_change_needs_the_blocks_that_it_touches() {
    let (here, base) = (parts(&[1]), 3 * BLOCK + 7);
    assert_eq!(here.missing(BLOCK - 1, BLOCK + 2, base), [0, 2]);
    assert_eq!(here.missing(0, 0, base), [] as [u32; 0]);
    assert_eq!(here.missing(base, 1, base), [3], "who appends in the last block");
    assert_eq!(here.missing(4 * BLOCK, 1, base), [3], "who writes behind it");
    assert_eq!(here.missing(u64::MAX, u64::MAX, base), [3]);
    assert_eq!(here.missing(9 * BLOCK, 1, 2 * BLOCK), [] as [u32; 0], "it is here");
    assert_eq!(here.missing(9 * BLOCK, 1, 3 * BLOCK), [2]);
    assert_eq!(here.missing(3, 4, 0), [] as [u32; 0], "nothing lies below");
}

proptest! {
    #[test]
    fn any_value_is_read_or_refused_and_says_the_same_again(value in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Some(parts) = Parts::parse(&value) {
            prop_assert_eq!(Parts::parse(&parts.print()), Some(parts));
        }
    }

    #[test]
    fn runs_follow_the_blocks(blocks in prop::collection::btree_set(0u32..12, 0..8), base in 0u64..12 * BLOCK, at in 0u64..13 * BLOCK) {
        let parts = parts(&blocks.iter().copied().collect::<Vec<_>>());
        let is_here = |at: u64| at >= base || blocks.contains(&u32::try_from(at / BLOCK).unwrap());
        let (here, end) = parts.run(at, base);
        prop_assert!(end > at);
        prop_assert_eq!(here, is_here(at));
        let end = end.min(13 * BLOCK);
        prop_assert_eq!(is_here(end - 1), here);
        prop_assert!(end == 13 * BLOCK || is_here(end) != here);
    }
}
