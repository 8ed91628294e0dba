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
use crate::cli::output::Output;
use crate::sys::signal_wait::Signals;

/// 128 and the number of SIGINT.
const EXIT_INTERRUPTED: u8 = 130;
/// Every how many writes it is looked whether SIGINT came; a line takes some.
const LOOK_AT: u32 = 16;
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
    let done = shell.run(line, &mut context.out);
    told(done, code, context)
}

/// As [`one`], on a terminal: Ctrl-C ends what the line began, and nothing else.
fn one_typed(shell: &mut Shell, line: &[u8], code: &mut u8, context: &mut Context) -> Result<bool, CliError> {
    let signals = Signals::block_interrupt().map_err(crate::engine::Error::from)?;
    forget(&signals);
    let mut out = Interrupted { out: &mut context.out, signals, writes: 0, came: false };
    let done = shell.run(line, &mut out);
    if out.came {
        *code = EXIT_INTERRUPTED;
        return Ok(true);
    }
    told(done, code, context)
}

fn told(done: Result<Next, CliError>, code: &mut u8, context: &mut Context) -> Result<bool, CliError> {
    match done {
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
    let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
    let mut editor = Editor::<Words, MemHistory>::with_history(config.clone(), MemHistory::with_config(&config))
        .map_err(|e| failed(&e))?;
    let code = shell.first_code();
    let shell = Rc::new(RefCell::new(shell));
    editor.set_helper(Some(Words(shell.clone())));
    // Between two lines Ctrl-C is a signal, too; while a line is read, it is a key.
    let between = Signals::block_interrupt().map_err(crate::engine::Error::from)?;
    let done = lines(&mut editor, &shell, code, context);
    forget(&between);
    done
}

/// What came by itself, to nobody.
fn forget(signals: &Signals) {
    while let Ok(Some(_)) = signals.came() {}
}

fn lines(
    editor: &mut Editor<Words, MemHistory>,
    shell: &Rc<RefCell<Shell>>,
    mut code: u8,
    context: &mut Context,
) -> Result<u8, CliError> {
    loop {
        context.out.flush()?;
        let prompt = shell.borrow().prompt();
        match editor.readline(prompt.as_str()) {
            Ok(line) => {
                if !one_typed(&mut shell.borrow_mut(), line.as_bytes(), &mut code, context)? {
                    return Ok(code);
                }
            }
            // Ctrl-C gives a line up.
            Err(ReadlineError::Interrupted) => {}
            // Ctrl-D, or a terminal that is gone.
            Err(ReadlineError::Eof | ReadlineError::Io(_) | ReadlineError::Errno(_)) => return Ok(code),
            Err(e) => return Err(failed(&e)),
        }
    }
}

/// An output that fails once SIGINT came, which ends whatever prints.
struct Interrupted<'a> {
    out: &'a mut Output,
    signals: Signals,
    writes: u32,
    came: bool,
}

impl Write for Interrupted<'_> {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.writes = self.writes.wrapping_add(1);
        if self.writes.is_multiple_of(LOOK_AT) {
            self.came |= matches!(self.signals.came(), Ok(Some(_)));
        }
        if self.came {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        self.out.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

fn failed(e: &ReadlineError) -> CliError {
    CliError::new(format!("cannot read from the terminal: {e}"))
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
