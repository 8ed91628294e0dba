//! The help and version texts, from the option table.

use std::fmt::Write;

use super::options::table::Group;
use super::options::table::OPTIONS;
use super::options::table::Shape;
use super::options::table::Spec;
use super::request::Dialect;

/// The version of fuse-overlayfs whose arguments and behaviour are followed.
const FOLLOWED: &str = "1.14";

/// The version text of a dialect.
pub fn version(dialect: Dialect) -> String {
    let own = env!("CARGO_PKG_VERSION");
    match dialect {
        Dialect::FuseOverlayfs => format!("fuse-overlayfs: version {FOLLOWED} (mica {own})\n"),
        Dialect::Mount8 | Dialect::Own => format!("mount.mica {own}\n"),
    }
}

/// The help text of a dialect.
pub fn help(dialect: Dialect) -> String {
    let mut text = usage(dialect).to_owned();
    text.push_str("\nMount options (-o NAME[=VALUE],...):\n");
    for group in Group::ALL {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}:\n", group.title());
        OPTIONS.iter().filter(|spec| spec.group == group).for_each(|spec| write_row(&mut text, spec));
    }
    text
}

fn write_row(text: &mut String, spec: &Spec) {
    let name = match (spec.shape, spec.names) {
        (Shape::Value(value), [name, ..]) => format!("{name}={value}"),
        (Shape::Boolean, [name, ..]) => format!("{name}[=0|1]"),
        (_, names) => names.join(" "),
    };
    // Long names get a line of their own.
    let column = 30;
    let name = if name.len() < column { format!("{name:column$}") } else { format!("{name}\n{:1$}", "", column + 2) };
    let _ = writeln!(text, "  {name}{}", spec.help);
}

fn usage(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::FuseOverlayfs => {
            "usage: fuse-overlayfs [-f] [-d] -o lowerdir=A:B[,upperdir=U,workdir=W][,OPTION...] [SOURCE] DIR\n\
             \n  -f  stay in the foreground\n  -d  the same, and print what happens\n  -V, --version\n  -h, --help\n"
        }
        Dialect::Mount8 | Dialect::Own => {
            "usage: mount.mica SOURCE DIR [-fnrsvw] [-N NAMESPACE] [-o OPTION,...]   as mount(8) calls it (-f: only check)\n\
             \x20      mount.mica --image REF | --container ID | --lower DIR... [OPTION...] DIR\n\
             \n  --image REF          mount this image\
             \n  --container ID       mount this container\
             \n  --lower DIR          mount this directory; again for the next one below\
             \n  --upper DIR          changes go here\
             \n  --work DIR           for unfinished changes, on the filesystem of --upper\
             \n  --rw                 changes go to a new place of their own\
             \n  --root DIR           the store\
             \n  --options, -o OPTS   mount options, see below\
             \n  --foreground, -f     stay in the foreground\
             \n  --debug, -d          the same, and print what happens\
             \n  --version, -V\
             \n  --help, -h\n"
        }
    }
}
