//! The few messages between mica and the process that becomes the container.

use super::error::Error;
use super::stage;
use crate::sys::Errno;

/// Child to parent: everything is set up, the terminal's master may come with it.
pub(super) const READY: [u8; 1] = [b'r'];
/// Parent to child: execute the command.
pub(super) const GO: [u8; 1] = [b'g'];

const FAILURE: u8 = b'e';

/// Child to parent: it failed; the exit code, then the message.
pub(super) fn failure(error: &Error) -> Vec<u8> {
    let mut bytes = vec![FAILURE, error.exit_code()];
    bytes.extend_from_slice(error.to_string().as_bytes());
    bytes.truncate(crate::sys::channel::MESSAGE_MAX);
    bytes
}

/// Reads a message of the child that is not [`READY`]: a [`failure`], or the error number that the trampoline sends.
pub(super) fn parse_failure(bytes: &[u8], command: &[u8]) -> Error {
    match bytes {
        [FAILURE, code, message @ ..] => {
            Error::Inside { code: *code, message: String::from_utf8_lossy(message).into_owned() }
        }
        &[a, b, c, d] => match stage::refusal(command, Errno::from_raw_os_error(i32::from_ne_bytes([a, b, c, d]))) {
            // The file was there a moment ago, so it is something else that it needs.
            Error::NotFound { command, why } => {
                Error::NotFound { command, why: format!("{why} (its interpreter or loader may be missing)") }
            }
            other => other,
        },
        _ => Error::Vanished("it sent a message that is none".to_owned()),
    }
}
