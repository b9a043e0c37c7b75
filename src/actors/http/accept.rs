//! Connections: so many at a time, none that only holds its place.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::actors::turning_away::{ACCEPT_AGAIN_AFTER, Spare, is_shortage, is_the_clients};
use crate::mcp::http::{HttpHandler, HttpServer};

/// How long a client may take for the headers of a request, and a connection rest between two.
const HEADERS_PATIENCE: Duration = Duration::from_secs(60);
/// What the headers of a request, or a part of its body, take at most at a time.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long a client that is turned away may take to hear it.
const REFUSAL_PATIENCE: Duration = Duration::from_millis(100);
const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves whoever connects, up to `connections_max` at a time, until no connection can be taken any more; says why.
/// Dropped, it ends all connections.
pub async fn accept<S: HttpHandler>(
    listener: TcpListener,
    server: Arc<HttpServer<S>>,
    connections_max: usize,
) -> io::Error {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    let places = Arc::new(Semaphore::new(connections_max));
    let (mut connections, mut short, mut spare) = (JoinSet::new(), false, Spare::new());
    loop {
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_shortage(&error) => {
                if !std::mem::replace(&mut short, true) {
                    tracing::error!(%error, "HTTP turns clients away for now");
                }
                if !spare.turn_away(&listener, BUSY) {
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
                continue;
            }
            Err(error) if is_the_clients(&error) => continue,
            Err(error) => return error,
        };
        short = false;
        spare.refill();
        match places.clone().try_acquire_owned() {
            Ok(place) => {
                let server = server.clone();
                connections.spawn(async move {
                    serve(stream, &server).await;
                    drop(place);
                });
            }
            Err(_) => refuse(stream, connections_max),
        }
    }
}

async fn serve<S: HttpHandler>(stream: TcpStream, server: &HttpServer<S>) {
    // Answers are small and awaited: none waits for the next one.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(|request| async move { Ok::<_, Infallible>(server.answer(request).await) });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_PATIENCE)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = serving.await {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

/// Says that there is no place, if that can be said at once.
fn refuse(mut stream: TcpStream, limit: usize) {
    tracing::warn!(limit, "too many HTTP connections: one is closed");
    tokio::spawn(async move {
        let _ = tokio::time::timeout(REFUSAL_PATIENCE, stream.write_all(BUSY)).await;
    });
}
