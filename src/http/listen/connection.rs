//! One connection, and what it may take its time with: its first bytes, the headers of a request, a pause between two.
//!
//! Whoever holds a connection holds one of a bounded number of places, so nothing that the client decides may last for
//! ever. The stream and the requests note what happens; one task a connection looks at the notes when the next limit could
//! have been reached, and not at every byte.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Answering, ListenOptions};

/// How long the client has to take its leave once we have: over HTTP/2 it has to answer our last question.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until the client leaves, a limit is reached, or all are told to stop.
pub(super) async fn serve<S>(
    stream: S,
    peer: SocketAddr,
    builder: &Builder<TokioExecutor>,
    answering: &impl Answering,
    options: &ListenOptions,
    mut stopping: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let notes = Arc::new(Notes::default());
    let stream = Noting { stream, opening: Some(0), notes: Arc::clone(&notes) };
    let service = service_fn(|request: Request<Incoming>| {
        let open = Open::begin(&notes);
        let answer = answering.clone().answer(request, peer);
        async move {
            let answer = answer.await;
            drop(open);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        biased;
        // How a connection ends is the client's affair; what was wrong with a request stood in its answer.
        _ = serving.as_mut() => return,
        // Whoever waits for all to end has a limit for that.
        _ = stopping.changed() => {
            serving.as_mut().graceful_shutdown();
            drop(serving.await);
            return;
        }
        limit = notes.until_a_limit(options) => match limit {
            Limit::Idle => serving.as_mut().graceful_shutdown(),
            Limit::Slow => return,
        },
    }
    tokio::select! {
        _ = serving => {}
        () = notes.until_gone() => {}
    }
}

/// What is known of a connection. Moments are microseconds since it was made.
#[derive(Debug)]
struct Notes {
    made: Instant,
    protocol: AtomicU8,
    /// Requests that a handler has and has not answered yet.
    open: AtomicU32,
    /// Since when there is a part of an HTTP/1.1 header; [`NEVER`] while there is none.
    header_since: AtomicU64,
    /// When the last request was answered; at first, when the connection was made. An answer that its client does not take
    /// counts as given: not reading must not hold the place either.
    answered: AtomicU64,
}

const NEVER: u64 = u64::MAX;
const UNSETTLED: u8 = 0;
const HTTP_1: u8 = 1;
const HTTP_2: u8 = 2;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    /// It has asked nothing for so long: it is told, and closed.
    Idle,
    /// It takes too long over something: it is closed.
    Slow,
}

/// A request that is with its handler.
struct Open(Arc<Notes>);

/// A stream that notes what is read from it.
struct Noting<S> {
    stream: S,
    /// How many bytes of the preface of HTTP/2 have come, until it is settled which version is spoken.
    opening: Option<usize>,
    notes: Arc<Notes>,
}

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// === impl Notes ===

impl Default for Notes {
    fn default() -> Self {
        Self {
            made: Instant::now(),
            protocol: AtomicU8::new(UNSETTLED),
            open: AtomicU32::new(0),
            header_since: AtomicU64::new(NEVER),
            answered: AtomicU64::new(0),
        }
    }
}

impl Notes {
    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_micros()).unwrap_or(NEVER)
    }

    fn settle(&self, protocol: u8) {
        self.protocol.store(protocol, Ordering::Relaxed);
        if protocol == HTTP_1 {
            self.read();
        }
    }

    /// Bytes have come. Over HTTP/1.1 they are a header's where no request is open: a body's come while its handler runs.
    fn read(&self) {
        let begins = self.open.load(Ordering::Relaxed) == 0 && self.header_since.load(Ordering::Relaxed) == NEVER;
        if begins && self.protocol.load(Ordering::Relaxed) == HTTP_1 {
            self.header_since.store(self.now(), Ordering::Relaxed);
        }
    }

    async fn until_a_limit(&self, options: &ListenOptions) -> Limit {
        loop {
            match self.judge(self.now(), options) {
                Ok(limit) => return limit,
                Err(look_again) => tokio::time::sleep_until(self.made + look_again).await,
            }
        }
    }

    /// The limit that is reached at `now`, or when to look again: before any could be that has not begun yet.
    fn judge(&self, now: u64, options: &ListenOptions) -> Result<Limit, Duration> {
        let soonest = Duration::from_micros(now) + options.header_timeout.min(options.idle_timeout);
        let header_since = self.header_since.load(Ordering::Relaxed);
        let (since, allowed, limit) = if self.protocol.load(Ordering::Relaxed) == UNSETTLED {
            (0, options.handshake_timeout, Limit::Slow)
        } else if header_since != NEVER {
            (header_since, options.header_timeout, Limit::Slow)
        } else if self.open.load(Ordering::Relaxed) > 0 {
            return Err(soonest);
        } else {
            (self.answered.load(Ordering::Relaxed), options.idle_timeout, Limit::Idle)
        };
        let end = Duration::from_micros(since) + allowed;
        if end <= Duration::from_micros(now) { Ok(limit) } else { Err(end.min(soonest)) }
    }

    /// Until the client has had its time to go, and no request that came in the meantime is open.
    async fn until_gone(&self) {
        loop {
            tokio::time::sleep(GOODBYE_TIMEOUT).await;
            if self.open.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

// === impl Open ===

impl Open {
    fn begin(notes: &Arc<Notes>) -> Self {
        notes.open.fetch_add(1, Ordering::Relaxed);
        notes.header_since.store(NEVER, Ordering::Relaxed);
        Self(Arc::clone(notes))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.answered.store(self.0.now(), Ordering::Relaxed);
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

// === impl Noting ===

/// Which version is spoken, once the bytes that follow `matched` bytes of the preface settle it; else how many match now.
fn settled_by(matched: usize, bytes: &[u8]) -> Result<u8, usize> {
    let rest = &PREFACE[matched..];
    let common = bytes.iter().zip(rest).take_while(|(byte, wanted)| byte == wanted).count();
    match matched + common {
        all if all == PREFACE.len() => Ok(HTTP_2),
        _ if common < bytes.len() => Ok(HTTP_1),
        matched => Err(matched),
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        if !bytes.is_empty() {
            match this.opening.map(|matched| settled_by(matched, bytes)) {
                None => this.notes.read(),
                Some(Err(matched)) => this.opening = Some(matched),
                Some(Ok(protocol)) => {
                    this.opening = None;
                    this.notes.settle(protocol);
                }
            }
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_that_leaves_the_preface_settles_the_version() {
        for (chunks, settled) in [
            (vec![&b"G"[..]], Ok(HTTP_1)),
            (vec![b"P"], Err(1)),
            (vec![b"P", b"OST"], Ok(HTTP_1)),
            (vec![b"PRI", b" * HTTP/2.0\r\n\r\nSM\r\n\r"], Err(23)),
            (vec![b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0"], Ok(HTTP_2)),
            (vec![b"PRI", b" * HTTP/2.0\r\n\r\nSM\r\n\r\n"], Ok(HTTP_2)),
        ] {
            let mut last = Err(0);
            for chunk in &chunks {
                last = settled_by(last.unwrap_err(), chunk);
            }
            assert_eq!(last, settled, "{chunks:?}");
        }
    }

    #[tokio::test]
    async fn each_limit_counts_from_what_it_limits() {
        let mut options = ListenOptions::new(1, Duration::ZERO);
        options.handshake_timeout = Duration::from_micros(10);
        options.header_timeout = Duration::from_micros(20);
        options.idle_timeout = Duration::from_micros(100);
        let again = |micros| Err(Duration::from_micros(micros));
        let table = [
            // protocol, open, header since, answered, now: what is to be done
            ((UNSETTLED, 0, NEVER, 0, 9), again(10)),
            ((UNSETTLED, 0, NEVER, 0, 10), Ok(Limit::Slow)),
            ((HTTP_1, 0, 5, 0, 24), again(25)),
            ((HTTP_1, 0, 5, 0, 25), Ok(Limit::Slow)),
            ((HTTP_1, 1, NEVER, 0, 1000), again(1020)),
            ((HTTP_1, 0, NEVER, 50, 60), again(80)),
            ((HTTP_1, 0, NEVER, 50, 145), again(150)),
            ((HTTP_1, 0, NEVER, 50, 150), Ok(Limit::Idle)),
            ((HTTP_2, 1, NEVER, 0, 1000), again(1020)),
            ((HTTP_2, 0, NEVER, 0, 100), Ok(Limit::Idle)),
        ];
        for (given, expected) in table {
            let (protocol, open, header_since, answered, now) = given;
            let notes = Notes {
                made: Instant::now(),
                protocol: protocol.into(),
                open: open.into(),
                header_since: header_since.into(),
                answered: answered.into(),
            };
            assert_eq!(notes.judge(now, &options), expected, "{given:?}");
        }
    }
}
