//! Bodies that a handler left unread: they are read to their end before the answer goes out.
//!
//! Over HTTP/2 an answer to a request that is still being sent is followed by a reset of its stream. That is allowed
//! (RFC 9113, section 8.1), but curl before 8 takes the reset for a failure and drops the answer: its user sees neither
//! the 401 nor why. Over HTTP/1.1 hyper does what is needed, and reading would call for bodies that wait for `100 Continue`.
//!
//! A handler takes its body along when it is refused, and what it dropped cannot be read. So the body waits beside the
//! request until somebody claims it; a wrapper that hands itself back when it is dropped would be allocated for each
//! validation.

use std::cell::Cell;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::Request;
use axum::http::Version;
use axum::response::Response;
use futures_util::StreamExt as _;

/// Who sends more slowly than this had better see the stream reset: their request holds a place among the connections.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The body of the request that this task serves, while nobody has it.
    static WAITING: Cell<Option<Body>>;
}

/// Serves a request, and then reads what is left of its body: up to `bytes_max` of it, and not for long.
pub(super) async fn serve(
    request: Request,
    bytes_max: usize,
    serve: impl AsyncFnOnce(Request) -> Response,
) -> Response {
    if request.version() != Version::HTTP_2 || request.body().is_end_stream() {
        return serve(request).await;
    }
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, Body::empty());
    let serving = async {
        let response = serve(request).await;
        (response, WAITING.with(Cell::take))
    };
    // Boxed, so that the state of a request over HTTP/1.1 has no room for it.
    let (response, unread) = Box::pin(WAITING.scope(Cell::new(Some(body)), serving)).await;
    if let Some(unread) = unread {
        drain(unread, bytes_max).await;
    }
    response
}

/// The body of a request, for whoever reads it.
pub(super) fn claim(request: Request) -> Body {
    let waiting = WAITING.try_with(Cell::take).ok().flatten();
    waiting.unwrap_or_else(|| request.into_body())
}

/// Gives a body back that was not read to its end.
pub(super) fn give_back(body: Body) {
    // Over HTTP/1.1 nobody waits for it.
    WAITING.try_with(|waiting| waiting.set(Some(body))).ok();
}

async fn drain(body: Body, bytes_max: usize) {
    let mut rest = body.into_data_stream();
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn request(body: Body) -> Request {
        Request::builder().version(Version::HTTP_2).body(body).unwrap()
    }

    /// A body of ten chunks of a byte each, and how many of them were read.
    fn chunks() -> (Body, Arc<AtomicUsize>) {
        let read = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&read);
        let chunks = futures_util::stream::iter(0..10).map(move |_| {
            seen.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>("x")
        });
        (Body::from_stream(chunks), read)
    }

    #[tokio::test]
    async fn a_body_that_is_read_is_what_came_and_nothing_around_it() {
        let answer = serve(request(Body::from("abc")), 10, async |request| {
            // A wrapper would not know its length, and the bytes would be gathered in steps.
            assert_eq!(claim(request).size_hint().exact(), Some(3));
            Response::default()
        });
        answer.await;
    }

    #[tokio::test]
    async fn what_nobody_read_is_read_to_a_limit() {
        for (bytes_max, expected) in [(100, 10), (4, 5)] {
            let (body, read) = chunks();
            serve(request(body), bytes_max, async |_| Response::default()).await;
            assert_eq!(read.load(Ordering::Relaxed), expected);
        }
        let (body, read) = chunks();
        let partly = serve(request(body), 100, async |request| {
            let mut body = claim(request).into_data_stream();
            body.next().await.unwrap().unwrap();
            give_back(Body::from_stream(body));
            Response::default()
        });
        partly.await;
        assert_eq!(read.load(Ordering::Relaxed), 10);
    }
}
