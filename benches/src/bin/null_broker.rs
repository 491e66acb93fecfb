//! `null_broker`: the least that a broker must do, as a process, to compare real ones with.
//!
//! Prints `listening on ADDRESS` when clients can come, and ends on SIGTERM or SIGINT without leaving files.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Parser;
use log_bench::null_broker::{Send, Settings, Space, Store, Sync, serve};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// A broker that only receives, checks checksums, stores and acknowledges.
#[derive(Debug, Parser)]
struct Options {
    /// Where clients reach it.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// Where its files are made; they go away with it.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// What becomes of a batch.
    #[arg(long, value_enum, default_value = "pwrite")]
    store: Store,
    /// When a batch is acknowledged.
    #[arg(long, value_enum, default_value = "none")]
    sync: Sync,
    /// How space is prepared.
    #[arg(long, value_enum, default_value = "allocated")]
    space: Space,
    /// Space to prepare for a partition, unless its topic says `segment.bytes`; a run should fit into it.
    #[arg(long, default_value_t = 640 << 20)]
    segment_bytes: u64,
    /// How a fetch is answered.
    #[arg(long, value_enum, default_value = "sendfile")]
    send: Send,
    /// Threads of the runtime; 0 is one thread without work stealing.
    #[arg(long, default_value_t = 0)]
    workers: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut builder = if options.workers == 0 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    let runtime = builder
        .worker_threads(options.workers.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(run(options))
}

async fn run(options: Options) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let listener = TcpListener::bind(&options.listen).await?;
    writeln!(std::io::stdout(), "listening on {}", listener.local_addr()?)?;
    let settings = Settings {
        directory: options.directory,
        store: options.store,
        sync: options.sync,
        space: options.space,
        segment_bytes: options.segment_bytes,
        send: options.send,
    };
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    Ok(serve(listener, settings, stop).await?)
}
