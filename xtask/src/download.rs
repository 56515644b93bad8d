//! Downloads over HTTPS. They continue after interruptions, are checked, and are moved into place when complete.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use ureq::tls::{RootCerts, TlsConfig};

use crate::progress::Task;
use crate::{signals, tries};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
const CHUNK_BYTES: usize = 128 * 1024;

/// Downloads `url` to `to`, unless a file with the right SHA-256 is already there.
///
/// Received bytes are first stored in `to.part`. The next try or call continues an interrupted download, and `to` is
/// never incomplete.
///
/// # Errors
/// If the server is unreachable or refuses, or the content has another checksum.
pub fn fetch(url: &str, to: &Path, sha256: &str, task: &Task) -> Result<()> {
    if to.is_file() && file_sha256(to)? == sha256 {
        return Ok(());
    }
    fs::create_dir_all(to.parent().context("a download needs a folder")?)?;
    let part = to.with_added_extension("part");
    let received = tries::repeat(task, || receive(url, &part, task)).flatten();
    received.with_context(|| format!("downloading {url}"))?;
    verify(&part, sha256)?;
    fs::rename(&part, to)?;
    Ok(())
}

/// # Errors
/// If the file has another SHA-256. The file is then removed, so that the next try starts over.
pub fn verify(path: &Path, sha256: &str) -> Result<()> {
    let found = file_sha256(path)?;
    if found != sha256 {
        fs::remove_file(path)?;
        bail!("{} has SHA-256 {found}, expected {sha256}; it was removed", path.display());
    }
    Ok(())
}

/// The SHA-256 of a file's content in lower-case hexadecimal digits.
pub fn file_sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&chunk[..count]);
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// After the outer error another try may succeed. The inner error is final: the server has refused.
fn receive(url: &str, part: &Path, task: &Task) -> Result<Result<()>> {
    let have = part.metadata().map_or(0, |file| file.len());
    let mut request = agent().get(url);
    if have > 0 {
        request = request.header("Range", format!("bytes={have}-"));
    }
    let response = request.call()?;
    let (mut file, have) = match response.status().as_u16() {
        200 => (File::create(part)?, 0),
        206 => (OpenOptions::new().append(true).open(part)?, have),
        // The part is complete, or belongs to another file. The check that follows decides.
        416 => return Ok(Ok(())),
        status @ 400..500 => return Ok(Err(anyhow!("the server answered {status}"))),
        status => bail!("the server answered {status}"),
    };
    let body = response.into_body();
    let expected = body.content_length();
    if let Some(rest) = expected {
        task.expect_bytes(have + rest, have);
    }
    let mut reader = body.into_reader();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut count_all = 0;
    loop {
        signals::check()?;
        let count = reader.read(&mut chunk)?;
        if count == 0 {
            break;
        }
        file.write_all(&chunk[..count])?;
        task.received(count as u64);
        count_all += count as u64;
    }
    if expected.is_some_and(|rest| count_all < rest) {
        bail!("the connection was closed early; the received part is kept");
    }
    Ok(Ok(()))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        // The system's store contains a company's own certificate authority. A built-in list would not.
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .build()
        .new_agent()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;
    use crate::progress::Progress;

    const BODY: &[u8] = b"0123456789";

    /// How the server responds to a request.
    #[derive(Clone, Copy)]
    enum Server {
        Whole,
        Ranges,
        BreaksOffAfter(usize),
        Missing,
        Broken,
    }

    /// Serves `BODY` once for each entry. The receiver gets the `Range` header of each request.
    fn serve(script: Vec<Server>) -> (String, Receiver<Option<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let (sender, ranges) = channel();
        std::thread::spawn(move || {
            for behaviour in script {
                let (mut stream, _) = listener.accept().unwrap();
                let head =
                    BufReader::new(&stream).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
                let range = head
                    .filter_map(|line| {
                        line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned)
                    })
                    .last();
                let from = match behaviour {
                    Server::Ranges => {
                        range.as_deref().map_or(0, |r| r.trim_end_matches('-').parse().unwrap())
                    }
                    _ => 0,
                };
                // Not every test reads the ranges.
                let _ = sender.send(range);
                let status = match behaviour {
                    Server::Missing => "404 Not Found",
                    Server::Broken => "503 Service Unavailable",
                    _ if from > 0 => "206 Partial Content",
                    _ => "200 OK",
                };
                let length = BODY.len() - from;
                write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")
                    .unwrap();
                let sent = match behaviour {
                    Server::BreaksOffAfter(count) => &BODY[..count],
                    _ => &BODY[from..],
                };
                // The client may disconnect before the end of the response.
                let _ = stream.write_all(sent);
            }
        });
        (url, ranges)
    }

    fn body_sha256() -> String {
        hex(&Sha256::digest(BODY))
    }

    fn fetch_into(folder: &tempfile::TempDir, url: &str, sha256: &str) -> Result<Vec<u8>> {
        let to = folder.path().join("file");
        fetch(url, &to, sha256, &Progress::new().task("test"))?;
        Ok(fs::read(to)?)
    }

    #[test]
    fn a_whole_download_lands_in_place_and_is_not_fetched_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = serve(vec![Server::Whole]);
        assert_eq!(fetch_into(&folder, &url, &body_sha256()).unwrap(), BODY);
        // The server has stopped, so a second request would fail.
        assert_eq!(fetch_into(&folder, &url, &body_sha256()).unwrap(), BODY);
    }

    #[test]
    fn a_broken_download_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let (url, ranges) = serve(vec![Server::BreaksOffAfter(4), Server::Ranges]);
        assert_eq!(fetch_into(&folder, &url, &body_sha256()).unwrap(), BODY);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [None, Some("4-".to_owned())]);
    }

    #[test]
    fn a_download_that_breaks_at_every_try_is_never_visible_and_the_next_call_continues_it() {
        let folder = tempfile::tempdir().unwrap();
        let (url, ranges) = serve([vec![Server::BreaksOffAfter(4); 3], vec![Server::Ranges]].concat());
        fetch_into(&folder, &url, &body_sha256()).unwrap_err();
        assert!(!folder.path().join("file").exists());
        assert_eq!(fetch_into(&folder, &url, &body_sha256()).unwrap(), BODY);
        let part = || Some("4-".to_owned());
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [None, part(), part(), part()]);
    }

    #[test]
    fn a_server_without_ranges_starts_the_file_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = serve(vec![Server::BreaksOffAfter(4), Server::Whole]);
        assert_eq!(fetch_into(&folder, &url, &body_sha256()).unwrap(), BODY);
    }

    #[test]
    fn other_bytes_than_expected_are_refused_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = serve(vec![Server::Whole]);
        let error = fetch_into(&folder, &url, &hex(&[0; 32])).unwrap_err().to_string();
        assert!(error.contains("expected 0000"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_server_that_is_in_trouble_is_asked_again() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = serve(vec![Server::Broken, Server::Broken, Server::Whole]);
        assert_eq!(fetch_into(&folder, &url, &body_sha256()).unwrap(), BODY);
    }

    #[test]
    fn a_refusal_names_the_address_and_the_status() {
        let folder = tempfile::tempdir().unwrap();
        let (url, _) = serve(vec![Server::Missing]);
        let error = format!("{:#}", fetch_into(&folder, &url, &body_sha256()).unwrap_err());
        assert!(error.contains(&url) && error.contains("404"), "{error}");
    }
}
