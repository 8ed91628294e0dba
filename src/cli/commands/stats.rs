//! `mica stats`

use std::ffi::OsString;
use std::io::Write;

use crate::cli::Context;
use crate::cli::error::CliError;
use crate::cli::format;
use crate::cli::looking;
use crate::cli::table::Table;
use crate::live::stats::Stats;
use crate::path::Escaped;

/// Arguments of `mica stats`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A mountpoint, a running container, or a path on a mount
    #[arg(value_name = "MOUNT|CONTAINER|PATH")]
    target: OsString,
    /// Print JSON
    #[arg(long, conflicts_with = "metrics")]
    json: bool,
    /// Print the text format of Prometheus
    #[arg(long)]
    metrics: bool,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let target = looking::mounted(&args.target, context)?;
    let stats = target.stats()?;
    if args.json {
        writeln!(context.out, "{:#}", serde_json::to_value(&stats).map_err(CliError::new)?)?;
    } else if args.metrics {
        use std::os::unix::ffi::OsStrExt;
        let place = Escaped(target.mountpoint().as_os_str().as_bytes()).to_string();
        context.out.write_all(metrics(&stats, &place).as_bytes())?;
    } else {
        text(&stats, &mut context.out)?;
    }
    Ok(())
}

fn text(stats: &Stats, out: &mut impl Write) -> std::io::Result<()> {
    let size = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), format::size);
    let (held, cache, copies) = (&stats.held, &stats.directory_cache, &stats.copy_ups);
    let asked = cache.hits + cache.misses;
    let share = (cache.hits * 100).checked_div(asked);
    let share = share.map_or_else(|| "never used".to_owned(), |percent| format!("{percent}% hits"));
    let kept = stats.kernel.timeout_seconds.map_or_else(|| "for ever".to_owned(), |secs| format!("{secs} seconds"));
    let lines = [
        ("server", format!("process {}, mica {}, up {} s", stats.pid, stats.version, stats.uptime_seconds)),
        ("layers", format!("{}{}", stats.layers, if stats.upper.is_some() { " and upper" } else { ", read-only" })),
        ("memory", format!("{}, at most {} so far", size(held.memory_bytes), size(held.memory_peak_bytes))),
        ("threads", held.threads.to_string()),
        ("descriptors", format!("{} of {}", held.descriptors, held.descriptors_max)),
        ("nodes", format!("{}, to which the kernel holds {} references", held.nodes, held.references)),
        ("open files", format!("{} handles of {} files", held.open_handles, held.open_files)),
        ("listings", held.listings.to_string()),
        ("dir cache", format!("{share} of {asked}, room for {}", cache.capacity)),
        (
            "copy-ups",
            format!(
                "{} files, {} directories, {} in {}",
                copies.files,
                copies.directories,
                format::size(copies.bytes),
                crate::cli::trace_text::took(copies.micros.saturating_mul(1000))
            ),
        ),
        (
            "ahead",
            format!(
                "{} names and {} files, by {} requests",
                stats.ahead.names, stats.ahead.files, stats.ahead.requests
            ),
        ),
        ("listeners", stats.listeners.to_string()),
        (
            "kernel",
            format!(
                "FUSE {}, writes of {}, may keep what it knows {kept}",
                stats.kernel.protocol,
                format::size(stats.kernel.max_write)
            ),
        ),
    ];
    for (name, value) in lines {
        writeln!(out, "{name:<12} {value}")?;
    }
    writeln!(out)?;
    let mut table = Table::new(&["REQUEST", "COUNT", "ERRORS"]);
    for request in &stats.requests {
        // They come from another process.
        let name = Escaped(request.op.as_bytes()).to_string();
        table.row(vec![name, request.count.to_string(), request.errors.to_string()]);
    }
    table.print(out)?;
    writeln!(out)?;
    abilities(stats).print(out)
}

/// One matrix: what was found possible, and what is used of it.
fn abilities(stats: &Stats) -> Table {
    let mut table = Table::new(&["ABILITY", "OF", "THERE", "USED"]);
    let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let kernel = &stats.kernel;
    for ability in &kernel.abilities {
        let name = Escaped(ability.name.as_bytes()).to_string();
        table.row(vec![name, "kernel".to_owned(), word(ability.offered), word(ability.used)]);
    }
    let served = [("no_open", kernel.no_open), ("passthrough_reads", kernel.passthrough)];
    for (name, used) in served {
        table.row(vec![name.to_owned(), "server".to_owned(), "yes".to_owned(), word(used)]);
    }
    let Some(upper) = &stats.upper else { return table };
    let found = [
        ("device_whiteouts", upper.device_whiteouts),
        ("rename_exchange", upper.rename_exchange),
        ("rename_whiteout", upper.rename_whiteout),
        ("tmpfile", upper.tmpfile),
        ("trusted_xattrs", upper.mark_xattrs.as_deref() == Some("trusted")),
        ("user_xattrs", upper.mark_xattrs.is_some()),
    ];
    for (name, there) in found {
        table.row(vec![name.to_owned(), "upper".to_owned(), word(there), word(there)]);
    }
    table.row(vec!["sync".to_owned(), "upper".to_owned(), word(true), word(!upper.volatile)]);
    table
}

/// The text format of Prometheus, version 0.0.4.
fn metrics(stats: &Stats, mountpoint: &str) -> String {
    let escaped = mountpoint.replace('\\', "\\\\").replace('"', "\\\"");
    let mount = format!("mount=\"{escaped}\"");
    let mut out = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, u64)>| {
        out.push_str(&format!("# HELP mica_{name} {help}\n# TYPE mica_{name} {kind}\n"));
        for (labels, value) in samples {
            let labels = if labels.is_empty() { mount.clone() } else { format!("{mount},{labels}") };
            out.push_str(&format!("mica_{name}{{{labels}}} {value}\n"));
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let (held, cache, copies) = (&stats.held, &stats.directory_cache, &stats.copy_ups);
    family("uptime_seconds", "gauge", "For how long the mount is served.", one(stats.uptime_seconds));
    family("layers", "gauge", "Read-only layers.", one(stats.layers));
    family("nodes", "gauge", "Inodes that the server knows.", one(held.nodes));
    family("node_references", "gauge", "References to them that the kernel holds.", one(held.references));
    family("open_handles", "gauge", "Open handles of files.", one(held.open_handles));
    family("open_files", "gauge", "Files of layers that are open for them.", one(held.open_files));
    family("descriptors", "gauge", "Descriptors of the server.", one(held.descriptors));
    family("threads", "gauge", "Threads of the server.", one(held.threads));
    if let Some(bytes) = held.memory_bytes {
        family("resident_memory_bytes", "gauge", "Memory of the server.", one(bytes));
    }
    let looks = vec![("result=\"hit\"".to_owned(), cache.hits), ("result=\"miss\"".to_owned(), cache.misses)];
    family("directory_cache_total", "counter", "Uses of the cache of directory descriptors.", looks);
    let label = |op: &str| format!("op=\"{}\"", op.replace(['\\', '"', '\n'], "_"));
    let counts = stats.requests.iter().map(|r| (label(&r.op), r.count)).collect();
    family("requests_total", "counter", "Operations by kind.", counts);
    let errors = stats.requests.iter().map(|r| (label(&r.op), r.errors)).collect();
    family("request_errors_total", "counter", "Operations that were answered with an error.", errors);
    let kinds = [("file", copies.files), ("directory", copies.directories)];
    let kinds = kinds.into_iter().map(|(kind, n)| (format!("kind=\"{kind}\""), n)).collect();
    family("copy_ups_total", "counter", "Copies from lower layers to the upper directory.", kinds);
    family("copy_up_bytes_total", "counter", "Bytes of content that were copied up.", one(copies.bytes));
    let ahead = &stats.ahead;
    let ahead = [("names", ahead.names), ("files", ahead.files), ("requests", ahead.requests)];
    let ahead = ahead.into_iter().map(|(what, n)| (format!("what=\"{what}\""), n)).collect();
    family("ahead_total", "counter", "What was looked up before somebody asked, and the requests of that.", ahead);
    family("listeners", "gauge", "Who listens to operations.", one(stats.listeners));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_mountpoint_stays_inside_its_label() {
        let stats: Stats = serde_json::from_value(serde_json::json!({
            "schema": 1, "version": "0", "pid": 1, "uptime_seconds": 1, "layers": 1,
            "held": serde_json::to_value(crate::live::stats::Held::default()).unwrap(),
            "directory_cache": { "capacity": 0, "hits": 1, "misses": 2 },
            "requests": [{ "op": "look\"up\n", "count": 1, "errors": 0 }],
            "copy_ups": { "files": 0, "directories": 0, "bytes": 0, "micros": 0 }, "listeners": 0,
            "kernel": { "protocol": "7.40", "abilities": [], "max_write": 0, "passthrough": false, "no_open": false,
                "timeout_seconds": null },
            "upper": null
        }))
        .unwrap();
        let text = metrics(&stats, "/a\"} 1\\x");
        assert!(text.contains(r#"mica_nodes{mount="/a\"} 1\\x"} 0"#), "{text}");
        assert!(text.contains("mica_requests_total{mount=\"/a\\\"} 1\\\\x\",op=\"look_up_\"} 1\n"), "{text}");
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("mica_")), "{text}");
    }
}
