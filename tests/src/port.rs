//! A port of this machine that is free, and stays so.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

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
            let socket = hold(0).expect("a free port");
            let number = socket.local_addr().expect("it is bound").port();
            match number.checked_add(BUS).map(hold) {
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

    /// `127.0.0.1:…`
    pub fn address(&self) -> String {
        at(self.number).to_string()
    }
}

/// Takes a port that nobody has, and lets those have it too who ask for it by its number.
fn hold(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(at(port))?;
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_port_is_had_by_its_number_and_by_nobody_else() {
        let port = Port::free();
        for number in [port.number(), port.number() + BUS] {
            TcpStream::connect(at(number)).expect_err("nobody listens");
            hold(number).map(drop).expect_err("it is held");
            let server = TcpListener::bind(at(number)).expect("it asks by its number");
            TcpStream::connect(at(number)).expect("somebody listens");
            drop(server);
            let again = TcpListener::bind(at(number));
            again.map(drop).expect("it comes back");
        }
    }
}
