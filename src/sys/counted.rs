//! An allocator that counts, for tests of how much memory something takes.
#![allow(unsafe_code)]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;

/// The system's allocator, counting what each thread holds.
#[derive(Debug)]
pub struct Counted;

#[global_allocator]
static COUNTED: Counted = Counted;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

/// Bytes that this thread took from the heap and did not give back, with what the C library adds to each piece.
pub fn held() -> isize {
    HELD.with(Cell::get)
}

/// What the C library takes for a piece: a head of 8 bytes, all in steps of 16, at least 32.
fn cost(layout: &Layout) -> isize {
    isize::try_from((layout.size() + 8).next_multiple_of(16).max(32)).unwrap()
}

fn count(bytes: isize) {
    // At the end of a thread there is nothing left to count with.
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: every call goes on to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(cost(&layout));
        // SAFETY: the caller's promise is the system allocator's, too.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-cost(&layout));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}
