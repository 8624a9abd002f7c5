//! The same program under the name and the form of the reference: `oo secret <command>`.

fn main() -> std::process::ExitCode {
    secretfs::cli::main_oo()
}
