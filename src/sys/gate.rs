//! The gate that every mutating system call passes: counted, traceable, and able to fail on demand. Calls that open and read pass it, too,
//! for those who ask for them.
//!
//! A hook belongs to the thread that set it, so tests that run side by side do not meet. Without a hook a pass costs one
//! relaxed load.

use std::cell::RefCell;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::Errno;
use super::Error;
use super::Result;

/// What a hook is shown: the name of the call about to be made, and its arguments as text.
#[derive(Debug)]
pub struct Call<'a> {
    /// The system call's name.
    pub name: &'static str,
    /// Its arguments, printed.
    pub args: &'a str,
}

type Ask = Box<dyn FnMut(&Call<'_>) -> Option<Errno>>;

struct Hook {
    ask: Ask,
    /// It is asked before calls that change nothing, too.
    all: bool,
}

static HOOKS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Lets one mutating call through, unless this thread's hook answers with an error.
///
/// # Errors
/// The error that the hook asked for, as if the call itself had failed.
#[inline]
pub(super) fn pass(name: &'static str, args: impl FnOnce() -> String) -> Result<()> {
    if HOOKS.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    ask(name, &args(), true)
}

/// Lets one call through that opens or reads something, unless this thread has a hook for those that answers with an error.
///
/// # Errors
/// As [`pass`].
#[inline]
pub(super) fn look(name: &'static str) -> Result<()> {
    if HOOKS.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    ask(name, "", false)
}

#[cold]
fn ask(name: &'static str, args: &str, changes: bool) -> Result<()> {
    let refused = HOOK.with(|hook| match hook.try_borrow_mut() {
        Ok(mut hook) => {
            hook.as_mut().filter(|hook| changes || hook.all).and_then(|hook| (hook.ask)(&Call { name, args }))
        }
        Err(_) => None,
    });
    refused.map_or(Ok(()), |errno| Err(Error::new(name, args, errno)))
}

/// Runs `body` with `hook` asked before every mutating call of this thread; used by fault tests and by tracing.
///
/// The hook is removed when `body` returns or panics.
pub fn with_hook<T>(hook: impl FnMut(&Call<'_>) -> Option<Errno> + 'static, body: impl FnOnce() -> T) -> T {
    with(Hook { ask: Box::new(hook), all: false }, body)
}

/// The same, with `hook` asked before calls that open and read, too: of those it hears the name alone.
pub fn with_hook_on_all<T>(hook: impl FnMut(&Call<'_>) -> Option<Errno> + 'static, body: impl FnOnce() -> T) -> T {
    with(Hook { ask: Box::new(hook), all: true }, body)
}

fn with<T>(hook: Hook, body: impl FnOnce() -> T) -> T {
    struct Remove;
    impl Drop for Remove {
        fn drop(&mut self) {
            HOOK.with(|hook| hook.borrow_mut().take());
            HOOKS.fetch_sub(1, Ordering::Relaxed);
        }
    }
    HOOK.with(|slot| slot.borrow_mut().replace(hook));
    HOOKS.fetch_add(1, Ordering::Relaxed);
    let _remove = Remove;
    body()
}
