//! A port of this machine that is free, and stays so.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use crate::proxy::bind;

/// The nodes of a Redis Cluster talk to each other at a port that is so much higher.
const BUS: u16 = 10_000;

/// A port that no one is given by chance: bound, and not listened at. A server that is told its number can listen
/// there, and again after it was killed.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _held: [TcpSocket; 2],
}

impl Port {
    /// One that is free, and so is the one for the bus.
    ///
    /// # Panics
    ///
    /// If this machine has none.
    pub fn free() -> Self {
        // What is tried stays bound until the end, so that something else is tried next.
        let mut tried = Vec::new();
        loop {
            let socket = bind(at(0)).expect("a free port");
            let number = socket.local_addr().expect("it is bound").port();
            match number.checked_add(BUS).map(|bus| bind(at(bus))) {
                Some(Ok(bus)) => {
                    return Self {
                        number,
                        _held: [socket, bus],
                    };
                }
                _ => tried.push(socket),
            }
        }
    }

    /// On 127.0.0.1.
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
