//! Changing good inputs into bad ones.

/// The longest input.
const MAX: usize = 1 << 16;

/// Numbers at which readers go wrong.
const NUMBERS: [u64; 12] =
    [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, u64::MAX >> 1, 1 << 63, u64::MAX];

/// A small generator: xorshift64*, enough to choose places.
#[derive(Debug)]
pub struct Rng(u64);

impl Rng {
    /// Every seed gives another sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap_or(0)
    }

    /// One of the corpus, changed a few times.
    pub fn mutate(&mut self, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes, corpus, words);
        }
        bytes.truncate(MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&[u8]]) {
        if bytes.is_empty() {
            bytes.push(self.next() as u8);
            return;
        }
        let at = self.below(bytes.len());
        let run = 1 + self.below((bytes.len() - at).min(600));
        match self.below(10) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = self.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + run)),
            4 => {
                let part = bytes[at..at + run].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let number = NUMBERS[self.below(NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            6 if !words.is_empty() => {
                let word = words[self.below(words.len())];
                let end = if self.below(2) == 0 { at } else { (at + word.len()).min(bytes.len()) };
                bytes.splice(at..end, word.iter().copied());
            }
            7 => {
                // A part of another good input.
                let other = &corpus[self.below(corpus.len())];
                if !other.is_empty() {
                    let from = self.below(other.len());
                    let part = other[from..(from + run).min(other.len())].to_vec();
                    bytes.splice(at..at, part);
                }
            }
            8 => {
                // Whole blocks of a tar change places.
                let blocks = bytes.len() / 512;
                if blocks > 1 {
                    let (a, b) = (self.below(blocks) * 512, self.below(blocks) * 512);
                    (0..512).for_each(|n| bytes.swap(a + n, b + n));
                }
            }
            _ => bytes[at..at + run].fill(self.next() as u8),
        }
    }
}
