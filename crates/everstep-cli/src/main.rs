//! The command `everstep`; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    everstep_cli::main()
}
