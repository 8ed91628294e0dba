//! Standard output. A reader that goes away (`mica images | head -1`) ends the command quietly.

use std::io::StdoutLock;
use std::io::Write;

/// Standard output, buffered.
#[derive(Debug)]
pub struct Output(std::io::BufWriter<StdoutLock<'static>>);

impl Default for Output {
    fn default() -> Self {
        Self(std::io::BufWriter::new(std::io::stdout().lock()))
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}
