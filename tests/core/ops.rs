//! Operations as data. What they act on is chosen by number among what is there, so that a shrunk case stays a valid one.

use proptest::prelude::*;

/// A directory that is there, and a name of the alphabet in it.
#[derive(Debug, Clone, Copy)]
pub struct At(pub u8, pub u8);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    None,
    NoReplace,
    Exchange,
}

#[derive(Debug, Clone, Copy)]
pub enum New {
    File,
    Dir,
    Symlink,
    Fifo,
    Device,
}

#[derive(Debug, Clone)]
pub enum Op {
    Make(At, New, u8, bool),
    Link(At, At),
    Unlink(At),
    Rmdir(At),
    Rename(At, At, Flag),
    Chmod(At, u8),
    Chown(At, u8),
    Times(At, u16),
    SetXattr(At, u8, u8),
    RemoveXattr(At, u8),
    Truncate(At, u16),
    /// Opens into a slot, for writing or not, cutting it or not.
    Open(u8, At, bool, bool),
    Close(u8),
    Write(u8, u16, u16),
    Cut(u8, u16),
    Punch(u8, u16, u16),
    Stat(u8),
    ChmodOpen(u8, u8),
    Copy(u8, u16, u8, u16, u16),
    /// The caches of the caller are dropped: every node without an open handle is forgotten.
    Forget,
    /// The union is closed and opened anew.
    Remount,
}

pub const SLOTS: usize = 3;

pub fn mode(pick: u8) -> u32 {
    [0o644, 0o755, 0o4755, 0o1777, 0o2755, 0o600, 0o000, 0o444][usize::from(pick) % 8]
}

fn at() -> impl Strategy<Value = At> {
    (any::<u8>(), any::<u8>()).prop_map(|(d, n)| At(d, n))
}

fn flag() -> impl Strategy<Value = Flag> {
    prop_oneof![4 => Just(Flag::None), 1 => Just(Flag::NoReplace), 2 => Just(Flag::Exchange)]
}

fn new() -> impl Strategy<Value = New> {
    prop_oneof![
        4 => Just(New::File),
        4 => Just(New::Dir),
        1 => Just(New::Symlink),
        1 => Just(New::Fifo),
        1 => Just(New::Device)
    ]
}

pub fn any_op() -> impl Strategy<Value = Op> {
    let b = any::<u8>;
    let w = any::<u16>;
    prop_oneof![
        8 => (at(), new(), b(), any::<bool>()).prop_map(|(a, n, m, o)| Op::Make(a, n, m, o)),
        4 => (at(), at()).prop_map(|(a, c)| Op::Link(a, c)),
        6 => at().prop_map(Op::Unlink),
        5 => at().prop_map(Op::Rmdir),
        14 => (at(), at(), flag()).prop_map(|(a, c, f)| Op::Rename(a, c, f)),
        2 => (at(), b()).prop_map(|(a, m)| Op::Chmod(a, m)),
        2 => (at(), b()).prop_map(|(a, m)| Op::Chown(a, m)),
        2 => (at(), w()).prop_map(|(a, t)| Op::Times(a, t)),
        2 => (at(), b(), b()).prop_map(|(a, n, v)| Op::SetXattr(a, n, v)),
        1 => (at(), b()).prop_map(|(a, n)| Op::RemoveXattr(a, n)),
        2 => (at(), 0..30_000u16).prop_map(|(a, n)| Op::Truncate(a, n)),
        6 => (b(), at(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(s, a, x, t)| Op::Open(s, a, x, t)),
        2 => b().prop_map(Op::Close),
        4 => (b(), 0..20_000u16, 0..3000u16).prop_map(|(s, at, n)| Op::Write(s, at, n)),
        1 => (b(), 0..20_000u16).prop_map(|(s, n)| Op::Cut(s, n)),
        1 => (b(), 0..20_000u16, 1..9000u16).prop_map(|(s, at, n)| Op::Punch(s, at, n)),
        3 => b().prop_map(Op::Stat),
        1 => (b(), b()).prop_map(|(s, m)| Op::ChmodOpen(s, m)),
        2 => (b(), 0..9000u16, b(), 0..9000u16, 0..5000u16).prop_map(|(s, x, t, y, n)| Op::Copy(s, x, t, y, n)),
        1 => Just(Op::Forget),
        1 => Just(Op::Remount),
    ]
}
