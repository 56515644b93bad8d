//! Redis with a password, on loopback.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::daemon::Launch;
use super::instance::Instance;
use super::part::Part;
use super::secrets::{REDIS_PASSWORD, write_private};

const TIMEOUT: Duration = Duration::from_secs(2);

/// How Redis is started.
pub fn launch(server: &Path, instance: &Instance) -> Result<Launch> {
    let data = instance.data(Part::Redis);
    std::fs::create_dir_all(&data)?;
    let file = instance.run_file("redis.conf");
    // In a file, because every user can read a command line.
    let configuration = format!(
        "bind 127.0.0.1\nport {}\nrequirepass \"{}\"\ndir \"{}\"\nappendonly yes\nsave \"\"\nmaxmemory 128mb\n\
         maxmemory-policy noeviction\n",
        instance.plan.ports.redis,
        escape(instance.secrets.required(REDIS_PASSWORD)),
        data.display(),
    );
    write_private(&file, &configuration)?;
    Ok(Launch {
        program: server.to_owned(),
        arguments: vec![file.clone().into()],
        environment: BTreeMap::new(),
        inputs: vec![file],
    })
}

/// Whether it accepts the password and has loaded its data.
pub fn answers(instance: &Instance) -> bool {
    ping(instance.plan.ports.redis, instance.secrets.required(REDIS_PASSWORD)).unwrap_or(false)
}

fn ping(port: u16, password: &str) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let auth = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{password}\r\n", password.len());
    stream.write_all(format!("{auth}*1\r\n$4\r\nPING\r\n").as_bytes())?;
    let expected = b"+OK\r\n+PONG\r\n";
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer == expected)
}

/// Escapes a quoted value for redis.conf.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"")
}
