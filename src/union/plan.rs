//! Plans: what one mutation does to the upper directory, as data.
//!
//! A planner is a pure function from what was observed to a [`Plan`]: steps with exactly one commit. Before the commit the tree
//! shows the state before; after it, the state after. Steps before the commit prepare (in the work directory, or by marks that
//! change nothing yet); steps behind it only clean up what no longer shows. So a crash at any border leaves the tree of before or
//! of after, and the order can be reviewed here as a table.
//!
//! Source: kernel `overlayfs.rst`, "whiteouts and opaque directories"; the order of steps is mica's own.

use super::work::Abilities;
use crate::layer::dir::Form;
use crate::sys::attr::Kind;
use crate::sys::name::RenameMode;

/// Where a step acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The name a rename or link comes from.
    Old,
    /// The name the operation is about.
    New,
    /// The AUFS whiteout file beside [`At::Old`].
    OldMark,
    /// The AUFS whiteout file beside [`At::New`].
    NewMark,
    /// A fresh name in the work directory; the same number is the same name.
    Work(u8),
}

/// What a step makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symlink; its text is the executor's.
    Symlink,
    /// A FIFO, socket or device with this number.
    Node(Kind, u64),
    /// A whiteout in the kernel's form.
    Whiteout,
    /// A whiteout file of AUFS's form.
    Mark,
}

/// One step. "The object" is what the last `Make` made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Makes something new.
    Make(At, What),
    /// Gives the object that the caller holds one more name, at this place.
    Link(At),
    /// Gives the object its owner and mode.
    Dress,
    /// Copies data, owner, mode, xattrs and times of the copy-up's source into the object, and syncs it.
    Fill,
    /// Marks the directory at this place opaque.
    Opaque(At),
    /// Removes all that a directory holds on disk: only whiteouts, in a directory that shows nothing.
    Empty(At),
    /// Notes where the lower part of the directory at this place lies.
    Redirect(At),
    /// Renames.
    Rename(At, At, RenameMode),
    /// Removes a file, device or symlink.
    Unlink(At),
    /// Removes an empty directory.
    Rmdir(At),
    /// Removes something with all below it; only in work.
    Discard(At),
}

/// The steps of one mutation. Step number `commit` publishes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The steps in order.
    pub steps: Vec<Step>,
    /// Which of them is the commit.
    pub commit: usize,
}

impl Plan {
    fn new(before: &[Step], commit: Step, after: &[Step]) -> Self {
        let mut steps = before.to_vec();
        steps.push(commit);
        steps.extend_from_slice(after);
        Self { steps, commit: before.len() }
    }
}

/// What upper holds at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpperSeen {
    /// Nothing.
    Absent,
    /// A whiteout of this form.
    Whiteout(Form),
    /// Something that is no directory.
    File,
    /// A directory; the flag tells whether it holds anything at all on disk (whiteouts included).
    Dir {
        /// Not one entry on disk.
        empty: bool,
    },
}

/// What was observed about one name before a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// In upper.
    pub upper: UpperSeen,
    /// Whether a lower object would show if upper said nothing.
    pub below: bool,
}

use At::New;
use At::NewMark;
use At::Old;
use At::OldMark;
use At::Work;
use RenameMode::Exchange;
use RenameMode::NoReplace;
use RenameMode::Replace;
use Step::Discard;
use Step::Dress;
use Step::Empty;
use Step::Fill;
use Step::Link;
use Step::Make;
use Step::Opaque;
use Step::Rename;
use Step::Rmdir;
use Step::Unlink;

/// Makes something new at a name that does not show. `direct` builds it in place where nothing is in the way: the caller knows
/// that it comes out complete in one call (owner and mode included).
pub fn create(seen: Observed, what: What, direct: bool, can: Abilities) -> Plan {
    let build = [Make(Work(0), what), Dress];
    let build_opaque = [Make(Work(0), what), Dress, Opaque(Work(0))];
    let is_dir = what == What::Dir;
    match seen.upper {
        UpperSeen::Whiteout(Form::Named) if is_dir && can.exchange => {
            Plan::new(&build_opaque, Rename(Work(0), New, Exchange), &[Discard(Work(0))])
        }
        // Without an exchange, a mark beside the name keeps hiding what is below while the whiteout itself makes way.
        UpperSeen::Whiteout(Form::Named) if is_dir => {
            let before = [Make(Work(0), what), Dress, Opaque(Work(0)), Make(NewMark, What::Mark), Unlink(New)];
            Plan::new(&before, Rename(Work(0), New, Replace), &[Unlink(NewMark)])
        }
        UpperSeen::Whiteout(Form::Named) => Plan::new(&build, Rename(Work(0), New, Replace), &[]),
        UpperSeen::Whiteout(Form::Aufs) if is_dir => {
            Plan::new(&build_opaque, Rename(Work(0), New, NoReplace), &[Unlink(NewMark)])
        }
        UpperSeen::Whiteout(Form::Aufs) => Plan::new(&build, Rename(Work(0), New, NoReplace), &[Unlink(NewMark)]),
        _ if direct => Plan::new(&[], Make(New, what), &[]),
        _ => Plan::new(&build, Rename(Work(0), New, NoReplace), &[]),
    }
}

/// Gives an object of upper that is held one more name, one that does not show.
pub fn link(seen: Observed) -> Plan {
    match seen.upper {
        UpperSeen::Whiteout(Form::Named) => Plan::new(&[Link(Work(0))], Rename(Work(0), New, Replace), &[]),
        UpperSeen::Whiteout(Form::Aufs) => Plan::new(&[], Link(New), &[Unlink(NewMark)]),
        _ => Plan::new(&[], Link(New), &[]),
    }
}

/// Publishes a copy of a lower object in upper, under its own name.
pub fn copy_up(what: What) -> Plan {
    Plan::new(&[Make(Work(0), what), Fill], Rename(Work(0), New, NoReplace), &[])
}

/// Removes a name that shows: a file, or a directory that is empty in the union.
pub fn remove(seen: Observed, can: Abilities) -> Plan {
    let whiteout = [Make(Work(0), What::Whiteout)];
    let mark = [Make(NewMark, What::Mark)];
    match (seen.upper, seen.below) {
        (UpperSeen::Absent | UpperSeen::Whiteout(_), _) if can.device_whiteouts => {
            Plan::new(&[], Make(New, What::Whiteout), &[])
        }
        (UpperSeen::Absent | UpperSeen::Whiteout(_), _) => Plan::new(&[], Make(NewMark, What::Mark), &[]),
        (UpperSeen::File, false) => Plan::new(&[], Unlink(New), &[]),
        (UpperSeen::File, true) if can.device_whiteouts => Plan::new(&whiteout, Rename(Work(0), New, Replace), &[]),
        (UpperSeen::File, true) => Plan::new(&mark, Unlink(New), &[]),
        (UpperSeen::Dir { empty: true }, false) => Plan::new(&[], Rmdir(New), &[]),
        (UpperSeen::Dir { .. }, false) => Plan::new(&[], Rename(New, Work(0), NoReplace), &[Discard(Work(0))]),
        (UpperSeen::Dir { .. }, true) if can.device_whiteouts && can.exchange => {
            Plan::new(&whiteout, Rename(Work(0), New, Exchange), &[Discard(Work(0))])
        }
        (UpperSeen::Dir { .. }, true) if can.rename_whiteout => {
            Plan::new(&[], Rename(New, Work(0), RenameMode::Whiteout), &[Discard(Work(0))])
        }
        (UpperSeen::Dir { .. }, true) => Plan::new(&mark, Rename(New, Work(0), NoReplace), &[Discard(Work(0))]),
    }
}

/// What a rename is about, beside what was observed at the two names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The source is a directory.
    pub dir: bool,
    /// Its lower part is noted by a redirect; without one a directory must have no lower part.
    pub redirect: bool,
}

/// Moves an object of upper from a name that shows to another, replacing what is there.
pub fn rename(from: Observed, to: Observed, moved: Move, can: Abilities) -> Plan {
    let mut before = Vec::new();
    let mut after = Vec::new();
    if moved.redirect {
        before.push(Step::Redirect(Old));
    } else if moved.dir && to.below {
        // What lies below the new name must not merge into it.
        before.push(Opaque(Old));
    }
    if to.upper == (UpperSeen::Dir { empty: false }) {
        // The kernel replaces only a directory that is empty on disk. Once it is opaque, its whiteouts hide nothing.
        before.push(if can.marks.is_some() { Opaque(New) } else { Make(NewMark, What::Mark) });
        before.push(Empty(New));
        if can.marks.is_none() {
            after.push(Unlink(NewMark));
        }
    }
    let onto_named = to.upper == UpperSeen::Whiteout(Form::Named);
    if to.upper == UpperSeen::Whiteout(Form::Aufs) {
        after.push(Unlink(NewMark));
    }
    let commit = if from.below && onto_named && can.exchange {
        // The whiteout there is just what the old name needs.
        Rename(Old, New, Exchange)
    } else if from.below && can.rename_whiteout && !(moved.dir && onto_named) {
        Rename(Old, New, RenameMode::Whiteout)
    } else if from.below {
        // A mark beside the old name changes nothing as long as the name itself shows.
        before.push(Make(OldMark, What::Mark));
        if moved.dir && onto_named {
            before.extend([Make(NewMark, What::Mark), Unlink(New)]);
            after.push(Unlink(NewMark));
        }
        Rename(Old, New, Replace)
    } else if moved.dir && onto_named && can.exchange {
        after.push(Unlink(Old));
        Rename(Old, New, Exchange)
    } else if moved.dir && onto_named {
        before.extend([Make(NewMark, What::Mark), Unlink(New)]);
        after.push(Unlink(NewMark));
        Rename(Old, New, Replace)
    } else {
        Rename(Old, New, Replace)
    };
    Plan::new(&before, commit, &after)
}

/// Exchanges two objects of upper that both show.
pub fn exchange(from: (Observed, Move), to: (Observed, Move)) -> Plan {
    let mut before = Vec::new();
    for (at, object, other) in [(Old, from.1, to.0), (New, to.1, from.0)] {
        if object.redirect {
            before.push(Step::Redirect(at));
        } else if object.dir && other.below {
            before.push(Opaque(at));
        }
    }
    Plan::new(&before, Rename(Old, New, Exchange), &[])
}
