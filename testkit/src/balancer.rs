//! A load balancer for several Envoys at one address. It assigns connections in turn and skips Envoys that are down.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::process::Trouble;

/// A running balancer; dropping it closes every connection.
#[derive(Debug)]
pub struct Balancer {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Balancer {
    /// Listens on `port` and forwards connections to the loopback ports `backends`.
    ///
    /// # Errors
    /// The port is in use.
    pub fn start(port: u16, backends: Vec<u16>) -> Result<Self, Trouble> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .map_err(|error| Trouble::new(format!("port {port}: {error}")))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name(format!("balancer-{port}")).spawn(move || {
            runtime.block_on(async {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    tokio::select! {
                        () = accept(listener, backends.into()) => {}
                        _ = stopped => {}
                    }
                }
            });
        })?;
        Ok(Self { port, stop: Some(stop), thread: Some(thread) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, backends: Arc<[u16]>) {
    let next = Arc::new(AtomicUsize::new(0));
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let (backends, first) = (Arc::clone(&backends), next.fetch_add(1, Ordering::Relaxed));
        tokio::spawn(async move {
            // Failures are ignored: a peer may disconnect, or all backends may be down.
            let _ = hand_over(client, &backends, first).await;
        });
    }
}

async fn hand_over(mut client: TcpStream, backends: &[u16], first: usize) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    for offset in 0..backends.len() {
        let Some(backend) = backends.get((first + offset) % backends.len()) else { continue };
        if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, *backend)).await {
            server.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
    }
    Ok(())
}
