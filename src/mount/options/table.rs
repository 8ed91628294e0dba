//! What a row of the table of mount options is, and how one is found. The rows are in `rows.rs`.

use super::MountOptions;
pub use super::rows::OPTIONS;
use super::value::Expected;

/// Which heading an option stands under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// What is mounted.
    Source,
    /// How the union works.
    Union,
    /// Owners, modes and attributes.
    Ownership,
    /// Speed.
    Speed,
    /// Who may do what through the mount.
    Access,
    /// Taken and without effect.
    Ignored,
}

impl Group {
    /// All groups, in the order of the help text.
    pub const ALL: [Group; 6] =
        [Group::Source, Group::Union, Group::Ownership, Group::Speed, Group::Access, Group::Ignored];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Source => "What is mounted",
            Group::Union => "How the union works",
            Group::Ownership => "Owners, modes, attributes",
            Group::Speed => "Speed",
            Group::Access => "Access",
            Group::Ignored => "Taken without effect",
        }
    }
}

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Never.
    Switch,
    /// `=0` or `=1`, or nothing for 1.
    Boolean,
    /// Always; the text stands for it in the help.
    Value(&'static str),
    /// With or without; nobody looks.
    Any,
}

/// Writes a value into the options.
pub type Setter = fn(&mut MountOptions, Option<&[u8]>) -> Result<(), Expected>;

/// What an option does.
#[derive(Debug, Clone, Copy)]
pub enum Apply {
    /// It sets something.
    Set(Setter),
    /// Nothing: it is for another program, or mica always (or never) does what it asks for.
    Ignore,
    /// It stops the mount: going on without it would show wrong files.
    Refuse(&'static str),
}

/// One row.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// The names; the first is shown first.
    pub names: &'static [&'static str],
    /// Whether it takes a value.
    pub shape: Shape,
    /// Its heading.
    pub group: Group,
    /// One line of help.
    pub help: &'static str,
    /// Its effect.
    pub apply: Apply,
}

/// The row of an option, by its name. Options that start with `x-` or `X-` are comments for other programs.
pub fn find(name: &[u8]) -> Option<&'static Spec> {
    if name.starts_with(b"x-") || name.starts_with(b"X-") {
        return Some(&COMMENT);
    }
    OPTIONS.iter().find(|spec| spec.names.iter().any(|known| known.as_bytes() == name))
}

const COMMENT: Spec = row(&["x-*"], Shape::Any, Group::Ignored, "comments of other programs", Apply::Ignore);

pub(super) const fn row(
    names: &'static [&'static str],
    shape: Shape,
    group: Group,
    help: &'static str,
    apply: Apply,
) -> Spec {
    Spec { names, shape, group, help, apply }
}
