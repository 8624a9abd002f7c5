//! The program `secretfs`.

#[global_allocator]
static ALLOCATOR: secretfs::daemon::Allocator = secretfs::daemon::Allocator;

fn main() -> std::process::ExitCode {
    secretfs::cli::main()
}
