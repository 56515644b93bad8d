//! Raw bytes over TCP, for requests that no HTTP library would send.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Bytes;

use super::Response;
use crate::process::Trouble;

/// A connection that sends any bytes.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects to a loopback port.
    ///
    /// # Errors
    /// No server listens there.
    pub fn open(port: u16) -> Result<Self, Trouble> {
        Self::open_to((Ipv4Addr::LOCALHOST, port))
    }

    /// Connects to a port of this address.
    ///
    /// # Errors
    /// No server listens there.
    pub fn open_to(address: impl Into<SocketAddr>) -> Result<Self, Trouble> {
        Self::over(TcpStream::connect_timeout(&address.into(), Duration::from_secs(5))?)
    }

    /// Connects to a loopback port from this source address. 127.0.0.0/8 offers many.
    ///
    /// # Errors
    /// No server listens there, or the address does not belong to this machine.
    pub fn open_from(source: IpAddr, port: u16) -> Result<Self, Trouble> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = runtime.block_on(super::request::connect(Some(source), target))?.into_std()?;
        stream.set_nonblocking(false)?;
        Self::over(stream)
    }

    fn over(stream: TcpStream) -> Result<Self, Trouble> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// The peer has closed the connection.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Trouble> {
        self.stream.write_all(bytes.as_ref())?;
        Ok(())
    }

    /// Reads until the received bytes satisfy `enough`, and returns all of them.
    ///
    /// # Errors
    /// The peer closed the connection or `bound` passed first. The text shows the received bytes.
    pub fn read_until(&mut self, bound: Duration, enough: impl Fn(&[u8]) -> bool) -> Result<&[u8], Trouble> {
        let start = Instant::now();
        while !enough(&self.read) {
            let left = bound.saturating_sub(start.elapsed());
            let open = !left.is_zero() && self.read_some(left)?;
            if !open && !enough(&self.read) {
                let so_far = String::from_utf8_lossy(&self.read).into_owned();
                return Err(Trouble::new(format!("only this came before the end or {bound:?}:\n{so_far}")));
            }
        }
        Ok(&self.read)
    }

    /// Reads one response and keeps the connection open for the next request.
    ///
    /// # Errors
    /// The response was not complete before the connection closed or `bound` passed.
    pub fn read_answer(&mut self, bound: Duration) -> Result<Response, Trouble> {
        self.read_until(bound, |read| complete_len(read).is_some())?;
        let length = complete_len(&self.read).unwrap_or_default();
        parse(&self.read.drain(..length).collect::<Vec<_>>())
    }

    /// Reads until the peer closes the connection or `bound` passes. Returns all received bytes.
    ///
    /// # Errors
    /// The connection failed.
    pub fn read_to_end(mut self, bound: Duration) -> Result<Vec<u8>, Trouble> {
        let start = Instant::now();
        loop {
            let left = bound.saturating_sub(start.elapsed());
            if left.is_zero() || !self.read_some(left)? {
                return Ok(self.read);
            }
        }
    }

    /// Whether the peer may still send.
    fn read_some(&mut self, bound: Duration) -> Result<bool, Trouble> {
        self.stream.set_read_timeout(Some(bound.max(Duration::from_millis(1))))?;
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(length) => {
                self.read.extend(buffer.iter().take(length));
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(true),
            // Envoy closes the connection immediately after a request that it cannot parse. The bytes before that
            // count.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends one request, which should have `Connection: close`, and reads the whole response. The body is still in its
/// transfer coding.
///
/// # Errors
/// No server listens, or the response is not HTTP.
pub fn exchange(port: u16, request: impl AsRef<[u8]>) -> Result<Response, Trouble> {
    let mut connection = Connection::open(port)?;
    connection.send(request)?;
    parse(&connection.read_to_end(Duration::from_secs(20))?)
}

/// The length of the first response once it is complete. It must have a `Content-Length`.
fn complete_len(bytes: &[u8]) -> Option<usize> {
    let (length, _, headers) = head(bytes)?;
    let body = headers.get("content-length").and_then(|value| value.to_str().ok()?.parse().ok());
    let length = length.checked_add(body.unwrap_or(0))?;
    (length <= bytes.len()).then_some(length)
}

fn parse(bytes: &[u8]) -> Result<Response, Trouble> {
    let no_http = || Trouble::new(format!("no HTTP answer: {:?}", String::from_utf8_lossy(bytes)));
    let (length, status, headers) = head(bytes).ok_or_else(no_http)?;
    let body = Bytes::copy_from_slice(bytes.get(length..).unwrap_or_default());
    Ok(Response { url: String::new(), status, headers, body })
}

/// The head of a response: its length in bytes, the status, the headers. `None` if it is incomplete or not HTTP.
fn head(bytes: &[u8]) -> Option<(usize, u16, HeaderMap)> {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut head = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(length) = head.parse(bytes).ok()? else { return None };
    let mut headers = HeaderMap::new();
    for field in head.headers {
        headers.append(HeaderName::try_from(field.name).ok()?, HeaderValue::try_from(field.value).ok()?);
    }
    Some((length, head.code?, headers))
}
