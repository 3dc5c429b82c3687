//! The server as a program.

use std::process::ExitCode;

/// sled fragments the arenas of the default allocator, so a busy server would keep ever more memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    webhook_server::main()
}
