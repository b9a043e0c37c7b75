//! Ports that nodes can have again after a restart.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

/// Below the ports that the system hands to outgoing connections: a node that is away for a while finds its own free.
const PORTS: Range<u16> = 20_000..32_000;
/// Ports that are tried before giving up.
const TRIES_MAX: u32 = 10_000;

/// `count` different free TCP ports of 127.0.0.1.
///
/// # Errors
/// If hardly any port is free.
pub fn free(count: usize) -> io::Result<Vec<u16>> {
    let mut held: Vec<TcpListener> = Vec::with_capacity(count);
    for _ in 0..TRIES_MAX {
        if held.len() == count {
            break;
        }
        let port = PORTS.start + rand::random::<u16>() % (PORTS.end - PORTS.start);
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    }
    if held.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no {count} free ports from {PORTS:?}")));
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ports_are_different_and_can_be_bound() {
        let ports = free(8).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 8);
        for port in ports {
            assert!(PORTS.contains(&port));
        }
    }
}
