//! Where the lines of the shell come from: a terminal, with history and completion, or a pipe, without a prompt.

use std::cell::RefCell;
use std::io::BufRead;
use std::io::IsTerminal;
use std::io::Read;
use std::io::Write;
use std::rc::Rc;

use rustyline::CompletionType;
use rustyline::Config;
use rustyline::Editor;
use rustyline::Helper;
use rustyline::completion::Completer;
use rustyline::completion::Pair;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::MemHistory;
use rustyline::validate::Validator;

use super::shell::Next;
use super::shell::Shell;
use super::words;
use crate::cli::Context;
use crate::cli::error::CliError;

/// The longest line that a pipe may hold, in bytes.
const LINE_MAX: u64 = 1 << 20;

/// Runs the shell until its input ends.
///
/// # Errors
/// With the exit code of the last command that failed; when input or output fails.
pub fn serve(shell: Shell, context: &mut Context) -> Result<(), CliError> {
    let code = if std::io::stdin().is_terminal() { typed(shell, context)? } else { piped(shell, context)? };
    context.out.flush()?;
    if code == 0 { Ok(()) } else { Err(CliError::answered(code)) }
}

/// One line; `false` at the end. Failures are printed and remembered.
fn one(shell: &mut Shell, line: &[u8], code: &mut u8, context: &mut Context) -> Result<bool, CliError> {
    match shell.run(line, &mut context.out) {
        Ok(next) => Ok(next == Next::Line),
        Err(e) => {
            // A reader that went away ends the shell; everything else is one command's failure.
            context.out.flush()?;
            e.print();
            *code = e.exit_code();
            // A signal ends the shell, too.
            Ok(*code <= 128)
        }
    }
}

fn piped(mut shell: Shell, context: &mut Context) -> Result<u8, CliError> {
    let mut code = shell.first_code();
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        if (&mut input).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(code);
        }
        if line.len() as u64 >= LINE_MAX {
            return Err(CliError::new("a line is longer than 1 MiB"));
        }
        if !one(&mut shell, &line, &mut code, context)? {
            return Ok(code);
        }
    }
}

fn typed(shell: Shell, context: &mut Context) -> Result<u8, CliError> {
    let failed = |e: ReadlineError| CliError::new(format!("cannot read from the terminal: {e}"));
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
    let mut editor =
        Editor::<Words, MemHistory>::with_history(config.clone(), MemHistory::with_config(&config)).map_err(failed)?;
    let mut code = shell.first_code();
    let shell = Rc::new(RefCell::new(shell));
    editor.set_helper(Some(Words(shell.clone())));
    loop {
        context.out.flush()?;
        let prompt = shell.borrow().prompt();
        match editor.readline(prompt.as_str()) {
            Ok(line) => {
                if !one(&mut shell.borrow_mut(), line.as_bytes(), &mut code, context)? {
                    return Ok(code);
                }
            }
            // Ctrl-C gives a line up.
            Err(ReadlineError::Interrupted) => {}
            // Ctrl-D, or a terminal that is gone.
            Err(ReadlineError::Eof | ReadlineError::Io(_) | ReadlineError::Errno(_)) => return Ok(code),
            Err(e) => return Err(failed(e)),
        }
    }
}

/// Completes commands and paths.
struct Words(Rc<RefCell<Shell>>);

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Self::Candidate>)> {
        let line = line.get(..at).unwrap_or(line);
        let found = self.0.borrow().complete(line);
        let found = found.into_iter().map(|(replacement, display)| Pair { display, replacement });
        Ok((words::word_start(line, line.len()), found.collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}

impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
