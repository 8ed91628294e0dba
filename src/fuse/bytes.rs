//! Integers and names out of a message, and into one.

/// Reads a message from its start; `None` as soon as it is too short. It may lie in two pieces, between two of its fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    now: &'a [u8],
    then: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { now: bytes, then: b"" }
    }

    /// A message whose later fields lie elsewhere.
    pub(super) fn in_two([now, then]: [&'a [u8]; 2]) -> Self {
        Self { now, then }
    }

    /// What is left of the piece in which the next field lies.
    fn piece(&mut self) -> &'a [u8] {
        if self.now.is_empty() {
            self.now = std::mem::take(&mut self.then);
        }
        self.now
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.piece().split_first_chunk()?;
        self.now = rest;
        Some(*first)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_ne_bytes)
    }

    /// Fields that say nothing here, in bytes.
    pub(super) fn skip(&mut self, n: usize) -> Option<()> {
        self.take(n).map(drop)
    }

    pub(super) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.piece().split_at_checked(n)?;
        self.now = rest;
        Some(first)
    }

    /// A name and the NUL behind it.
    pub(super) fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.piece().iter().position(|b| *b == 0)?;
        let name = self.take(end)?;
        self.skip(1)?;
        Some(name)
    }
}

/// A message of at most `N` bytes, built on the stack. What does not fit is left out: the layouts are fixed, and the tests of
/// [`super::reply`] compare their sizes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fixed<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Fixed<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    pub(super) fn put(mut self, bytes: &[u8]) -> Self {
        let end = self.len + bytes.len();
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
        self
    }

    pub(super) fn u16(self, n: u16) -> Self {
        self.put(&n.to_ne_bytes())
    }

    pub(super) fn u32(self, n: u32) -> Self {
        self.put(&n.to_ne_bytes())
    }

    pub(super) fn i32(self, n: i32) -> Self {
        self.put(&n.to_ne_bytes())
    }

    pub(super) fn u64(self, n: u64) -> Self {
        self.put(&n.to_ne_bytes())
    }

    pub(super) fn i64(self, n: i64) -> Self {
        self.put(&n.to_ne_bytes())
    }

    /// Fields that say nothing, in bytes.
    pub(super) fn zeros(mut self, n: usize) -> Self {
        self.len = (self.len + n).min(N);
        self
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}
