//! The listener: HTTP/1.1 and HTTP/2, with TLS or without, and the limits that keep one client, slow or hostile, from
//! holding what the others need.
//!
//! Limits on one request (its time, its body) are what surrounds each, in `layer`; here are those on connections and headers,
//! which bind before there is a request. What becomes of one connection is in `connection`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use axum_server::accept::{Accept, NoDelayAcceptor};
use axum_server::tls_rustls::RustlsAcceptor;
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::tls::Tls;
use crate::telemetry::Metrics;

mod connection;

/// All headers of one request together. Proxies in front stop at 8 to 32 KiB; a token of ours has less than 2 KiB.
const HEADER_BYTES_MAX: u16 = 32 * 1024;
/// How many requests one HTTP/2 connection may have open at once: what one gateway sends over its one connection.
const STREAMS_MAX: u32 = 256;
/// An HTTP/2 client that has nothing to say is asked this often whether it is still there …
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// … and has this long to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the process has no descriptor left for a connection, one may be free after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the listener treats its connections.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Further connections are closed at once: an error that a client retries, rather than a wait that it takes for
    /// an outage.
    pub connections_max: usize,
    /// From the accepted connection to the end of the TLS handshake, and from there to the first bytes of a request.
    pub handshake_timeout: Duration,
    /// From the first byte of an HTTP/1.1 request to the end of its headers, however steadily the bytes drip.
    pub header_timeout: Duration,
    /// How long a connection of either version may have no request.
    pub idle_timeout: Duration,
    /// How long running requests may go on after the shutdown began.
    pub shutdown_grace: Duration,
}

/// Whatever answers the requests of a listener. Cloned for each.
pub trait Answering: Clone + Send + Sync + 'static {
    /// Answers a request of the client at `peer`.
    fn answer(self, request: Request<Incoming>, peer: SocketAddr) -> impl Future<Output = Response> + Send;
}

/// Handlers find the client's address in `ConnectInfo<SocketAddr>`.
impl Answering for Router {
    async fn answer(self, mut request: Request<Incoming>, peer: SocketAddr) -> Response {
        request.extensions_mut().insert(ConnectInfo(peer));
        let Ok(response) = TowerToHyperService::new(self).call(request).await;
        response
    }
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
            // A header is one packet or two: whoever takes longer has a worse line than any that we know of.
            header_timeout: Duration::from_secs(10),
            // Longer than the 60 s for which nginx keeps a connection to us, and the 90 s of Go and reqwest: the side
            // that opens connections should be the one that closes them, or a request now and then meets a closing one.
            idle_timeout: Duration::from_secs(120),
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
    pub async fn serve(
        self,
        answering: impl Answering,
        tls: Option<&Tls>,
        metrics: &Metrics,
        shutdown: impl Future<Output = ()>,
    ) {
        let Self { socket, options } = self;
        match tls {
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(tls.config())
                    .handshake_timeout(options.handshake_timeout)
                    .acceptor(NoDelayAcceptor::new());
                serve(socket, acceptor, answering, options, metrics, shutdown).await;
            }
            None => serve(socket, NoDelayAcceptor::new(), answering, options, metrics, shutdown).await,
        }
    }
}

/// What every connection is served with.
struct Serving<A, S> {
    acceptor: A,
    answering: S,
    builder: Builder<TokioExecutor>,
    options: ListenOptions,
}

async fn serve<A>(
    socket: TcpListener,
    acceptor: A,
    answering: impl Answering,
    options: ListenOptions,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()>,
) where
    A: Accept<TcpStream, (), Service = ()> + Send + Sync + 'static,
    A::Future: Send,
    A::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(options.connections_max.min(Semaphore::MAX_PERMITS)));
    let grace = options.shutdown_grace;
    let serving = Arc::new(Serving { acceptor, answering, builder: builder(), options });
    let (stop, stopping) = watch::channel(());
    // Dropped with whatever is still in it: that is how the grace ends.
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&socket) => accepted,
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            metrics.connection_refused();
            continue;
        };
        let (serving, stopping) = (Arc::clone(&serving), stopping.clone());
        connections.spawn(async move {
            // A handshake that fails is the client's affair, and every scanner's.
            if let Ok((stream, ())) = serving.acceptor.accept(stream, ()).await {
                let Serving { answering, builder, options, .. } = &*serving;
                connection::serve(stream, peer, builder, answering, options, stopping).await;
            }
            drop(permit);
        });
    }
    // Nobody should wait for an answer in the queue of a socket that is not looked at any more.
    drop((socket, stop));
    let all = async { while connections.join_next().await.is_some() {} };
    drop(tokio::time::timeout(grace, all).await);
}

async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        // hyper counts the pause before a request and its headers as one; see `connection` for the two limits that we want.
        .header_read_timeout(None)
        .max_buf_size(usize::from(HEADER_BYTES_MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::from(HEADER_BYTES_MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

#[cfg(test)]
mod tests;
