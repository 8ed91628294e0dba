//! What a mount answers to questions about itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use super::abi::init;
use super::ahead;
use super::handshake::Agreed;
use super::server::Server;
use crate::env;
use crate::layer::marks::Family;
use crate::live::Hub;
use crate::live::stats::Ability;
use crate::live::stats::Ahead;
use crate::live::stats::Cache;
use crate::live::stats::CopyUps;
use crate::live::stats::Held;
use crate::live::stats::Kernel;
use crate::live::stats::Known;
use crate::live::stats::SCHEMA;
use crate::live::stats::Stats;
use crate::live::stats::Upper;
use crate::sys;
use crate::union::Union;

/// What a mount knows of itself; to be asked on any thread.
#[derive(Debug, Clone)]
pub struct Live {
    hub: Arc<Hub>,
    union: Arc<Union>,
    agreed: Agreed,
    timeout: Duration,
    lends: bool,
    ahead: Option<Arc<ahead::Done>>,
    since: Instant,
}

impl Live {
    pub(super) fn new(server: &Server, lends: bool) -> Self {
        Self {
            hub: server.hub.clone(),
            union: server.union.clone(),
            agreed: server.agreed,
            timeout: server.config.timeout,
            lends,
            ahead: server.ahead.as_ref().map(ahead::Ahead::done),
            since: env::monotonic(),
        }
    }

    /// Where its operations are told.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Counters, and what it holds. Looks at every node.
    pub fn stats(&self) -> Stats {
        let copies = self.union.copies();
        let cache = self.union.fd_cache().map(|fds| fds.usage());
        Stats {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.since.elapsed().as_secs(),
            layers: self.union.stack().layers.len() as u64,
            held: self.held(),
            directory_cache: cache.map_or_else(Cache::default, |c| Cache {
                capacity: c.capacity as u64,
                hits: c.hits,
                misses: c.misses,
            }),
            requests: self.hub.counts(),
            copy_ups: CopyUps {
                files: copies.files,
                directories: copies.directories,
                bytes: copies.bytes,
                micros: u64::try_from(copies.took.as_micros()).unwrap_or(u64::MAX),
            },
            ahead: self.ahead.as_deref().map_or_else(Ahead::default, |done| Ahead {
                requests: done.requests.load(Ordering::Relaxed),
                names: done.names.load(Ordering::Relaxed),
                files: done.files.load(Ordering::Relaxed),
            }),
            listeners: self.hub.listeners() as u64,
            kernel: self.kernel(),
            upper: self.union.stack().upper.as_ref().map(|upper| {
                let a = upper.abilities;
                let family = |family| match family {
                    Family::Trusted => "trusted".to_owned(),
                    Family::User => "user".to_owned(),
                };
                Upper {
                    device_whiteouts: a.device_whiteouts,
                    rename_exchange: a.exchange,
                    rename_whiteout: a.rename_whiteout,
                    mark_xattrs: a.marks.map(family),
                    tmpfile: a.tmpfile,
                    volatile: upper.volatile,
                }
            }),
        }
    }

    fn held(&self) -> Held {
        let holdings = self.union.holdings();
        let process = sys::process::usage();
        Held {
            nodes: holdings.nodes,
            references: holdings.references,
            open_handles: holdings.open_handles,
            open_files: holdings.open_files,
            listings: holdings.listings,
            descriptors: process.descriptors,
            descriptors_max: sys::process::open_files_limit() as u64,
            threads: process.threads,
            memory_bytes: process.memory,
            memory_peak_bytes: process.memory_peak,
        }
    }

    fn kernel(&self) -> Kernel {
        let ability = |(name, bit): &(&str, u64)| Ability {
            name: (*name).to_owned(),
            offered: self.agreed.offered & bit != 0,
            used: self.agreed.has(*bit),
        };
        Kernel {
            protocol: format!("7.{}", self.agreed.minor),
            abilities: ABILITIES.iter().map(ability).collect(),
            max_write: u64::from(self.agreed.max_write),
            passthrough: self.lends,
            no_open: self.agreed.is_unopened(),
            timeout_seconds: self.timeout(),
        }
    }

    /// `None` where nothing ends.
    fn timeout(&self) -> Option<f64> {
        (self.timeout < super::FOREVER).then_some(self.timeout.as_secs_f64())
    }

    /// What is known of a path from the root of the mount. Looks at no layer.
    pub fn known(&self, path: &[u8]) -> Known {
        let node = self.union.known_at(path);
        Known {
            ino: node.as_ref().map(|node| node.ino),
            references: node.as_ref().map_or(0, |node| node.lookups()),
            open_handles: node.as_ref().map_or(0, |node| u64::from(node.open_handles())),
            timeout_seconds: self.timeout(),
        }
    }
}

/// The protocol's names of the abilities that tell one kernel from another, oldest first.
const ABILITIES: &[(&str, u64)] = &[
    ("async_read", init::ASYNC_READ),
    ("atomic_o_trunc", init::ATOMIC_O_TRUNC),
    ("big_writes", init::BIG_WRITES),
    ("dont_mask", init::DONT_MASK),
    ("splice_write", 1 << 7),
    ("splice_move", 1 << 8),
    ("splice_read", 1 << 9),
    ("has_ioctl_dir", init::HAS_IOCTL_DIR),
    ("auto_inval_data", init::AUTO_INVAL_DATA),
    ("do_readdirplus", init::DO_READDIRPLUS),
    ("readdirplus_auto", init::READDIRPLUS_AUTO),
    ("async_dio", init::ASYNC_DIO),
    ("writeback_cache", 1 << 16),
    ("no_open_support", init::NO_OPEN_SUPPORT),
    ("parallel_dirops", init::PARALLEL_DIROPS),
    ("posix_acl", init::POSIX_ACL),
    ("max_pages", init::MAX_PAGES),
    ("cache_symlinks", init::CACHE_SYMLINKS),
    ("no_opendir_support", 1 << 24),
    ("handle_killpriv_v2", init::HANDLE_KILLPRIV_V2),
    ("setxattr_ext", init::SETXATTR_EXT),
    ("init_ext", init::INIT_EXT),
    ("create_supp_group", 1 << 34),
    ("has_expire_only", 1 << 35),
    ("passthrough", init::PASSTHROUGH),
    ("no_export_support", 1 << 38),
    ("over_io_uring", init::OVER_IO_URING),
];
