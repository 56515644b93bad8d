//! A load balancer for several Envoys at one address. It assigns connections in turn and skips Envoys that are down.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;

use crate::process::Trouble;
use crate::server::Server;

/// A running balancer; dropping it closes every connection.
#[derive(Debug)]
pub struct Balancer(Server);

impl Balancer {
    /// Listens on `port` and forwards connections to the loopback ports `backends`.
    ///
    /// # Errors
    /// The port is in use.
    pub fn start(port: u16, backends: Vec<u16>) -> Result<Self, Trouble> {
        let (next, backends) = (AtomicUsize::new(0), Arc::<[u16]>::from(backends));
        let server = Server::of_connections(port, move |client| {
            let (backends, first) = (Arc::clone(&backends), next.fetch_add(1, Ordering::Relaxed));
            async move {
                // Failures are ignored: a peer may disconnect, or all backends may be down.
                let _ = hand_over(client, &backends, first).await;
            }
        });
        server.map(Self)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port()
    }
}

async fn hand_over(mut client: TcpStream, backends: &[u16], first: usize) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    for backend in backends.iter().cycle().skip(first % backends.len().max(1)).take(backends.len()) {
        if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, *backend)).await {
            server.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut client, &mut server).await?;
            return Ok(());
        }
    }
    Ok(())
}
