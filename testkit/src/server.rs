//! Serves HTTP from another thread, so that tests need no async code.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
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

/// A running server for HTTP/1.1 and HTTP/2 (prior knowledge) on loopback. Dropping it closes the port and all
/// connections.
#[derive(Debug)]
pub struct Server {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `handler` on `port`.
    ///
    /// # Errors
    /// The port is in use, or no thread can be started.
    pub fn start(port: u16, handler: Handler) -> Result<Self, Trouble> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| Trouble::new(format!("port {port}: {error}")))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (report, started) = mpsc::channel();
        let thread = std::thread::Builder::new().name(format!("server-{port}")).spawn(move || {
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener);
                let _ = report.send(listener.as_ref().map(|_| ()).map_err(ToString::to_string));
                if let Ok(listener) = listener {
                    tokio::select! {
                        () = accept(listener, handler) => {}
                        _ = stopped => {}
                    }
                }
            });
            // Dropping the runtime drops all connections, so to its peers the server is gone.
        })?;
        let server = Self { port, stop: Some(stop), thread: Some(thread) };
        match started.recv() {
            Ok(Ok(())) => Ok(server),
            Ok(Err(error)) => Err(Trouble::new(format!("port {port}: {error}"))),
            Err(_) => Err(Trouble::new(format!("the server for port {port} did not start"))),
        }
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

async fn accept(listener: tokio::net::TcpListener, handler: Handler) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = handler(request);
                async move { answer.await.ok_or(BrokenOff) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A peer may disconnect at any time.
            let _ = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
        });
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
