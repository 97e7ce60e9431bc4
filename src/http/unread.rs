//! Bodies that a handler left unread: they are read to their end before the answer goes out.
//!
//! Over HTTP/2 an answer to a request that is still being sent is followed by a reset of its stream. That is allowed
//! (RFC 9113, section 8.1), but curl before 8 takes the reset for a failure and drops the answer: its user sees neither
//! the 401 nor why. Over HTTP/1.1 hyper does what is needed, and reading would call for bodies that wait for `100 Continue`.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::Version;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::oneshot;

/// Who sends more slowly than this had better see the stream reset: their request holds a place among the connections.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// What will be left of a body.
pub(super) struct Unread(oneshot::Receiver<BodyDataStream>);

/// A body that is handed on when its reader drops it before the end.
struct Watched {
    body: Option<BodyDataStream>,
    rest: Option<oneshot::Sender<BodyDataStream>>,
}

/// Watches the body of a request over HTTP/2, if it has one.
pub(super) fn watch(request: Request) -> (Request, Option<Unread>) {
    if request.version() != Version::HTTP_2 || request.body().is_end_stream() {
        return (request, None);
    }
    let (sender, receiver) = oneshot::channel();
    let watched = |body: Body| Watched { body: Some(body.into_data_stream()), rest: Some(sender) };
    (request.map(|body| Body::from_stream(watched(body))), Some(Unread(receiver)))
}

// === impl Unread ===

impl Unread {
    /// Reads what is left, once whoever had the body is gone: up to `bytes_max` of it, and not for long.
    pub(super) async fn drain(mut self, bytes_max: usize) {
        let Ok(mut rest) = self.0.try_recv() else { return };
        let reading = async {
            let mut room = bytes_max;
            while let Some(Ok(chunk)) = rest.next().await {
                let Some(less) = room.checked_sub(chunk.len()) else { return };
                room = less;
            }
        };
        // Too slow or too long: the answer goes out all the same, and most clients do read it.
        drop(tokio::time::timeout(DRAIN_TIMEOUT, reading).await);
    }
}

// === impl Watched ===

impl Stream for Watched {
    type Item = Result<Bytes, axum::Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = body.poll_next_unpin(context);
        // At its end, or broken: nothing is left of it.
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let (Some(body), Some(rest)) = (self.body.take(), self.rest.take()) {
            // Nobody waits for it where the whole request was given up.
            rest.send(body).ok();
        }
    }
}
