//! The one binary.

use clap::Parser;
use portcullis::cli::serve;
use portcullis::config::ServeArgs;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Cli {
    Serve(ServeArgs),
}

fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match Cli::parse() {
        Cli::Serve(args) => serve::run(args),
    }
}
