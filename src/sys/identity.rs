//! The identity under which one thread makes files.

#![allow(unsafe_code)]

/// Runs `body` with this thread's filesystem user and group set to the given ones, so that what it makes belongs to them from
/// the first moment. They are set back when `body` returns.
///
/// A change away from root takes the thread's filesystem capabilities with it, until it is changed back: a permission error in
/// `body` may come from that. Raw system calls, since the C library's would change every thread.
pub fn as_owner<T>(uid: u32, gid: u32, body: impl FnOnce() -> T) -> T {
    struct Restore(u32, u32);
    impl Drop for Restore {
        fn drop(&mut self) {
            set(self.0, self.1);
        }
    }
    let before = set(uid, gid);
    let _restore = Restore(before.0, before.1);
    body()
}

/// Sets both and returns the former ones. The calls cannot fail in a way that can be told: they return the former value.
fn set(uid: u32, gid: u32) -> (u32, u32) {
    // SAFETY: both calls take plain numbers and touch no memory. Group first while going away from root, user first when
    // coming back, is not needed: setfsgid asks for CAP_SETGID, which setfsuid leaves alone.
    let (gid, uid) = unsafe { (libc::syscall(libc::SYS_setfsgid, gid), libc::syscall(libc::SYS_setfsuid, uid)) };
    (u32::try_from(uid).unwrap_or(0), u32::try_from(gid).unwrap_or(0))
}
