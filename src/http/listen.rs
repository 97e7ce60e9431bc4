//! The listener: HTTP/1.1 and HTTP/2, with TLS or without, and the limits that keep one client, slow or hostile, from
//! holding what the others need.
//!
//! Limits on one request (its time, its body) are layers of the router; here are those on connections and headers,
//! which bind before there is a request.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::RustlsAcceptor;
use axum_server::{Handle, Server};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::tls::Tls;
use crate::telemetry::Metrics;

/// All headers of one request together. Proxies in front stop at 8 to 32 KiB; a token of ours has less than 2 KiB.
const HEADER_BYTES_MAX: u16 = 32 * 1024;
/// How many requests one HTTP/2 connection may have open at once: what one gateway sends over its one connection.
const STREAMS_MAX: u32 = 256;
/// An HTTP/2 client that has nothing to say is asked this often whether it is still there …
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// … and has this long to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How the listener treats its connections.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Further connections are closed at once: an error that a client retries, rather than a wait that it takes for
    /// an outage.
    pub connections_max: usize,
    /// From the accepted connection to the end of the TLS handshake, and from there to the first bytes of a request.
    pub handshake_timeout: Duration,
    /// From the first chance to send a request to the end of its headers; so an HTTP/1.1 connection between two
    /// requests is closed after as long.
    pub header_timeout: Duration,
    /// How long running requests may go on after the shutdown began.
    pub shutdown_grace: Duration,
}

/// A bound socket that does not serve yet: its address is known before the first request can come.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    options: ListenOptions,
}

impl ListenOptions {
    pub fn new(connections_max: usize, shutdown_grace: Duration) -> Self {
        Self {
            connections_max,
            shutdown_grace,
            handshake_timeout: Duration::from_secs(10),
            // Longer than the 60 s for which nginx keeps a connection to us: the side that opens connections should
            // be the one that closes them, or a request now and then meets a closing one.
            header_timeout: Duration::from_secs(75),
        }
    }
}

impl Listener {
    /// Binds; port 0 takes any that is free.
    pub async fn bind(address: SocketAddr, options: ListenOptions) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, options })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `shutdown` is done, and then until the running requests are, or the grace is over.
    ///
    /// Handlers find the client's address in `ConnectInfo<SocketAddr>`.
    pub async fn serve(
        self,
        router: Router,
        tls: Option<&Tls>,
        metrics: &Metrics,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let Self { socket, options } = self;
        let handle: Handle<SocketAddr> = Handle::new();
        let mut server = Server::from_listener(socket).handle(handle.clone());
        limit(server.http_builder(), &options);
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let grace = options.shutdown_grace;
        let serving = async {
            match tls {
                Some(tls) => {
                    let inner = RustlsAcceptor::new(tls.config())
                        .handshake_timeout(options.handshake_timeout)
                        .acceptor(NoDelayAcceptor::new());
                    server.acceptor(Gate::new(inner, &options, metrics)).serve(service).await
                }
                None => server.acceptor(Gate::new(NoDelayAcceptor::new(), &options, metrics)).serve(service).await,
            }
        };
        let stopping = async {
            shutdown.await;
            handle.graceful_shutdown(Some(grace));
            // What ends this function is the end of the serving, which waits for the running requests.
            std::future::pending().await
        };
        tokio::select! {
            ended = serving => ended,
            never = stopping => never,
        }
    }
}

fn limit(builder: &mut Builder<TokioExecutor>, options: &ListenOptions) {
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_timeout)
        .max_buf_size(usize::from(HEADER_BYTES_MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::from(HEADER_BYTES_MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
}

/// Lets so many connections in and no more, and watches over the first bytes of each.
#[derive(Clone, Debug)]
struct Gate<A> {
    inner: A,
    permits: Arc<Semaphore>,
    opening_timeout: Duration,
    metrics: Metrics,
}

impl<A> Gate<A> {
    fn new(inner: A, options: &ListenOptions, metrics: &Metrics) -> Self {
        Self {
            inner,
            permits: Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS))),
            opening_timeout: options.handshake_timeout,
            metrics: metrics.clone(),
        }
    }
}

type Accepting<Stream, Service> = Pin<Box<dyn Future<Output = io::Result<(Stream, Service)>> + Send>>;

impl<A, S> Accept<TcpStream, S> for Gate<A>
where
    A: Accept<TcpStream, S>,
    A::Future: Send + 'static,
    A::Stream: Send + 'static,
    A::Service: Send + 'static,
{
    type Stream = Guarded<A::Stream>;
    type Service = A::Service;
    type Future = Accepting<Self::Stream, Self::Service>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            self.metrics.connection_refused();
            return Box::pin(std::future::ready(Err(io::ErrorKind::ConnectionRefused.into())));
        };
        let accepted = self.inner.accept(stream, service);
        let opening_timeout = self.opening_timeout;
        Box::pin(async move {
            let (stream, service) = accepted.await?;
            Ok((Guarded { stream, opening: Some(Opening::new(opening_timeout)), _permit: permit }, service))
        })
    }
}

/// A connection that holds its place among the many, and must say in time which protocol it speaks.
struct Guarded<S> {
    stream: S,
    opening: Option<Opening>,
    _permit: OwnedSemaphorePermit,
}

/// The first bytes of a connection. The server reads them to tell HTTP/2 from HTTP/1.1, before either's own timeouts
/// begin: without a deadline here, a client that connects and is silent would hold its place for ever.
struct Opening {
    deadline: Pin<Box<Sleep>>,
    /// How many bytes of the preface of HTTP/2 have come.
    matched: usize,
}

/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Opening {
    fn new(timeout: Duration) -> Self {
        Self { deadline: Box::pin(tokio::time::sleep_until(Instant::now() + timeout)), matched: 0 }
    }

    /// Whether the protocol is settled: the bytes leave the preface, or complete it.
    fn is_settled_by(&mut self, bytes: &[u8]) -> bool {
        let rest = &PREFACE[self.matched..];
        let common = bytes.iter().zip(rest).take_while(|(byte, wanted)| byte == wanted).count();
        self.matched += common;
        common < bytes.len() || self.matched == PREFACE.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let Some(opening) = &mut this.opening else { return polled };
        match polled {
            Poll::Ready(read) => {
                if opening.is_settled_by(&buf.filled()[before..]) {
                    this.opening = None;
                }
                Poll::Ready(read)
            }
            Poll::Pending => {
                ready!(opening.deadline.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
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
mod tests;
