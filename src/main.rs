//! The `mica` command.

fn main() -> std::process::ExitCode {
    micafs::cli::main(std::env::args_os())
}
