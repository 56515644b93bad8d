//! Serves connections from another thread, so that tests need no async code.

use std::convert::Infallible;
use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::JoinHandle;

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::process::Trouble;

/// Why a response body is incomplete: the connection is closed before its end.
#[derive(Debug, thiserror::Error)]
#[error("broken off on purpose")]
pub struct BrokenOff;

/// A response body.
pub type Body = UnsyncBoxBody<Bytes, BrokenOff>;

/// The result of a handler. `None` closes the connection without a response.
pub type Answer = Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send>>;

/// A function that answers requests.
pub type Handler = Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// A running server on loopback. Dropping it closes the port and all connections.
#[derive(Debug)]
pub struct Server {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `handler` on `port` over HTTP/1.1 and HTTP/2 (prior knowledge).
    ///
    /// # Errors
    /// The port is in use, or no thread can be started.
    pub fn start(port: u16, handler: Handler) -> Result<Self, Trouble> {
        Self::of_connections(port, move |stream| {
            let handler = Arc::clone(&handler);
            async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { answer.await.ok_or(BrokenOff) }
                });
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // A peer may disconnect at any time.
                let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            }
        })
    }

    /// Calls `serve` for each connection to `port`.
    ///
    /// # Errors
    /// The port is in use, or no thread can be started.
    pub(crate) fn of_connections<F: Future<Output = ()> + Send + 'static>(
        port: u16,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
            .map_err(|error| Trouble::new(format!("port {port}: {error}")))?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("server-{port}")).spawn(move || {
            runtime.block_on(async {
                let accept = async {
                    loop {
                        if let Ok((stream, _)) = listener.accept().await {
                            tokio::spawn(serve(stream));
                        }
                    }
                };
                tokio::select! {
                    () = accept => {}
                    _ = stopped => {}
                }
            });
            // Dropping the runtime drops all connections, so to its peers the server is gone.
        })?;
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A body that consists of these bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A response whose body consists of these bytes.
///
/// # Panics
/// If a header is invalid, which is a typing error of the caller.
pub fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    match builder.body(full(body)) {
        Ok(response) => response,
        Err(error) => panic!("not a response: {status} {headers:?}: {error}"),
    }
}
