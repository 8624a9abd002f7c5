//! The program `secretfs`.

fn main() -> std::process::ExitCode {
    secretfs::cli::main()
}
