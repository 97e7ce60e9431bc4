//! The one binary: the allocator, the provider of cryptography, and the command line.

use std::process::ExitCode;

/// Validation and the fold of the log allocate small things on many threads, where the platform's allocator contends.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // It fails only where a provider is installed already, and nothing ran before this line.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    portcullis::cli::main()
}
