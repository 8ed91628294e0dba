<<<<<<< HEAD
//! The `mica` command.

fn main() {}
=======
//! The command `mica`.

fn main() -> std::process::ExitCode {
    micafs::cli::main(std::env::args_os())
}
>>>>>>> store
