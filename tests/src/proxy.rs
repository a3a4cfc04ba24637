//! A proxy between a store and its server, which does to the wire what networks do to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{future, io};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::tools::PATIENCE;

/// Bytes that are read at a time.
const CHUNK: usize = 64 << 10;

/// Chunks that are held for each direction of a connection, when they are held at all.
const HELD: usize = 1_024;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// What becomes of connections and bytes, those under way included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// They go through.
    Open,
    /// They go through, and every byte takes this long.
    Delayed {
        /// From the client to the server.
        up: Duration,
        /// From the server to the client.
        down: Duration,
    },
    /// Connections are taken, and no byte goes through. What is held goes through if the wire opens again, as
    /// what a network has lost is sent again.
    BlackHole,
    /// Connections are reset, new ones as soon as they are made.
    Reset,
    /// Connections are reset, and nobody listens for new ones.
    Refused,
}

/// Where a connection is reset, once. One that is made later does not count: what it says first is no answer to what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// When so many more bytes from clients have gone through, and one more is there.
    FromClient(usize),
    /// When so many more bytes from servers have gone through, and one more is there.
    FromServer(usize),
}

impl Cut {
    /// The next request does not reach the server.
    pub const BEFORE: Self = Self::FromClient(0);
    /// The server has answered the next request, and nothing of that reaches the client.
    pub const AFTER: Self = Self::FromServer(0);
}

/// What has gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Connections made.
    pub connections: usize,
    /// Bytes from clients.
    pub up: usize,
    /// Bytes from the server.
    pub down: usize,
    /// How often bytes from the server came after bytes of the client, connection by connection.
    pub round_trips: usize,
}

/// A proxy on a free port of its own, with a thread of its own: it goes by real time, whatever a test does to
/// its runtime's. It is gone when it drops.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Opens a proxy in front of a server.
    ///
    /// # Panics
    ///
    /// If there is no port to listen at.
    pub fn open(server: SocketAddr) -> Self {
        let shared = Arc::new(Shared::new(server));
        let (stop, stopped) = oneshot::channel();
        let (opened, listening) = std_mpsc::channel();
        let thread = thread::spawn({
            let shared = Arc::clone(&shared);
            move || serve(&shared, &opened, stopped)
        });
        Self {
            address: listening.recv().expect("the proxy listens"),
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Returns where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections to another server, as a name does that is given to a new primary. Those there are
    /// stay with the old one.
    pub fn lead_to(&self, server: SocketAddr) {
        *self
            .shared
            .server
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = server;
    }

    /// Makes the wire so, from now on, and forgets a cut that has not come yet.
    ///
    /// # Panics
    ///
    /// If its port is no longer to be had.
    pub fn set(&self, wire: Wire) {
        self.shared.book().ordered = None;
        let number = self.shared.change(wire);
        self.shared.wait_until_in_force(number);
    }

    /// Returns what the wire is now.
    pub fn wire(&self) -> Wire {
        self.shared.state.borrow().wire
    }

    /// Resets one connection there, and makes the wire so from then on.
    pub fn cut(&self, cut: Cut, then: Wire) {
        let mut book = self.shared.book();
        let of = book.connections;
        book.ordered = Some(Ordered { cut, then, of });
    }

    /// Returns `true` if a cut is still to come.
    pub fn is_cut_pending(&self) -> bool {
        self.shared.book().ordered.is_some()
    }

    /// Takes the count of what has gone through since the last call of this.
    pub fn traffic(&self) -> Traffic {
        std::mem::take(&mut self.shared.book().traffic)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // An error means that the thread has ended already, having panicked: its message is on the screen.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// What the wire is.
#[derive(Clone, Copy, Debug)]
struct State {
    wire: Wire,
    /// How often it has been set.
    number: u64,
    /// How often that has broken it: a connection from before is reset, though the wire be open again.
    breaks: u64,
}

#[derive(Debug)]
struct Shared {
    server: Mutex<SocketAddr>,
    state: watch::Sender<State>,
    book: Mutex<Book>,
    /// The number of the wire that the listener goes by.
    in_force: Mutex<u64>,
    enforced: Condvar,
}

#[derive(Debug, Default)]
struct Book {
    traffic: Traffic,
    /// Connections made, ever.
    connections: usize,
    ordered: Option<Ordered>,
}

/// A cut that is still to come.
#[derive(Debug)]
struct Ordered {
    cut: Cut,
    then: Wire,
    /// It is one of the first so many connections that is cut.
    of: usize,
}

/// A connection, as the book has it.
struct Entry {
    number: usize,
    /// The client has sent something since the server's last answer.
    unanswered: AtomicBool,
}

impl Shared {
    fn new(server: SocketAddr) -> Self {
        Self {
            server: Mutex::new(server),
            state: watch::Sender::new(State {
                wire: Wire::Open,
                number: 0,
                breaks: 0,
            }),
            book: Mutex::default(),
            in_force: Mutex::default(),
            enforced: Condvar::new(),
        }
    }

    fn server(&self) -> SocketAddr {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, wire: Wire) -> u64 {
        let mut number = 0;
        self.state.send_modify(|state| {
            state.wire = wire;
            state.number += 1;
            state.breaks += u64::from(wire.is_broken());
            number = state.number;
        });
        number
    }

    fn enforce(&self, number: u64) {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        *in_force = number;
        self.enforced.notify_all();
    }

    fn wait_until_in_force(&self, number: u64) {
        let in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .enforced
            .wait_timeout_while(in_force, PATIENCE, |in_force| *in_force < number);
        let (in_force, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(*in_force >= number, "the proxy does what it is told");
    }

    /// Books bytes that are to go through, and says how many do; if not all, what the wire is to be from then on.
    fn pass(&self, way: Way, bytes: usize, entry: &Entry) -> (usize, Option<Wire>) {
        let mut book = self.book();
        let (passing, then) = book.passing(way, bytes, entry.number);
        if passing > 0 {
            book.count(way, passing, &entry.unanswered);
        }
        (passing, then)
    }
}

impl Book {
    fn enter(&mut self) -> Entry {
        let number = self.connections;
        self.connections += 1;
        self.traffic.connections += 1;
        Entry {
            number,
            unanswered: AtomicBool::new(false),
        }
    }

    fn passing(&mut self, way: Way, bytes: usize, number: usize) -> (usize, Option<Wire>) {
        let Some(Ordered { cut, then, .. }) = self.ordered.as_mut().filter(|cut| number < cut.of)
        else {
            return (bytes, None);
        };
        let ((Cut::FromClient(left), Way::Up) | (Cut::FromServer(left), Way::Down)) = (cut, way)
        else {
            return (bytes, None);
        };
        if bytes <= *left {
            *left -= bytes;
            return (bytes, None);
        }
        let (passing, then) = (*left, *then);
        self.ordered = None;
        (passing, Some(then))
    }

    fn count(&mut self, way: Way, bytes: usize, unanswered: &AtomicBool) {
        match way {
            Way::Up => {
                self.traffic.up += bytes;
                unanswered.store(true, Ordering::Relaxed);
            }
            Way::Down => {
                self.traffic.down += bytes;
                self.traffic.round_trips += usize::from(unanswered.swap(false, Ordering::Relaxed));
            }
        }
    }
}

/// The direction of bytes.
#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

impl Wire {
    /// Returns how long a byte takes; `None` if it never arrives.
    fn delay(self, way: Way) -> Option<Duration> {
        match (self, way) {
            (Self::Open, _) => Some(Duration::ZERO),
            (Self::Delayed { up, .. }, Way::Up) => Some(up),
            (Self::Delayed { down, .. }, Way::Down) => Some(down),
            (Self::BlackHole | Self::Reset | Self::Refused, _) => None,
        }
    }

    fn is_broken(self) -> bool {
        matches!(self, Self::Reset | Self::Refused)
    }
}

/// The proxy's thread.
fn serve(
    shared: &Arc<Shared>,
    opened: &std_mpsc::Sender<SocketAddr>,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        // Stays bound, so that nobody else gets the port while nobody listens there.
        let held = bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = held.local_addr().expect("it is bound");
        let door = Some(listen(address));
        opened.send(address).expect("the test waits for it");
        tokio::select! {
            () = accept(shared, address, door) => {}
            _ = stopped => {}
        }
    });
}

/// Holds a port, so that nobody else gets it who does not ask for it by its number.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> TcpListener {
    let listening = bind(address).and_then(|socket| socket.listen(BACKLOG));
    listening.expect("a port to listen at")
}

/// Takes connections, for as long as there is a door to knock at.
async fn accept(shared: &Arc<Shared>, address: SocketAddr, mut door: Option<TcpListener>) {
    let mut state = shared.state.subscribe();
    // It may have been set by now.
    state.mark_changed();
    loop {
        tokio::select! {
            biased;
            _ = state.changed() => {
                let State { wire, number, .. } = *state.borrow_and_update();
                door = match wire {
                    Wire::Refused => None,
                    _ => door.or_else(|| Some(listen(address))),
                };
                shared.enforce(number);
            }
            Ok(client) = knock(door.as_ref()) => {
                let breaks = state.borrow().breaks;
                tokio::spawn(carry(Arc::clone(shared), client, breaks));
            }
        }
    }
}

async fn knock(door: Option<&TcpListener>) -> io::Result<TcpStream> {
    match door {
        Some(listener) => Ok(listener.accept().await?.0),
        None => future::pending().await,
    }
}

/// Why a connection does not end as its two ends would have it.
enum Broken {
    /// An end is gone.
    Io,
    /// It is cut here; from now on the wire is so.
    Cut(Wire),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// One connection, from its beginning, when there had been so many breaks, to its end.
async fn carry(shared: Arc<Shared>, mut client: TcpStream, breaks: u64) {
    let Some(mut server) = reach(&shared).await else {
        return reset(&client);
    };
    let entry = shared.book().enter();
    let ended = tokio::select! {
        biased;
        () = broken(&shared, breaks) => Err(Broken::Io),
        ended = pump_both(&shared, &entry, &mut client, &mut server) => ended,
    };
    if let Err(why) = ended {
        if let Broken::Cut(then) = why {
            shared.change(then);
        }
        reset(&client);
        reset(&server);
    }
}

/// A connection to the server, as soon as one goes through.
async fn reach(shared: &Shared) -> Option<TcpStream> {
    let mut state = shared.state.subscribe();
    let state = state.wait_for(|state| state.wire != Wire::BlackHole);
    if state.await.ok()?.wire.is_broken() {
        return None;
    }
    let address = shared.server();
    let server = TcpStream::connect(address).await.ok()?;
    server.set_nodelay(true).ok()?;
    Some(server)
}

/// Until the wire has been broken once more.
async fn broken(shared: &Shared, breaks: u64) {
    let mut state = shared.state.subscribe();
    // The sender is in `shared`, and so is there.
    let _ = state.wait_for(|state| state.breaks != breaks).await;
}

/// The end that closes this is sent a reset, and what is still to be sent is not.
fn reset(connection: &TcpStream) {
    // An error means that it has ended already.
    let _ = connection.set_zero_linger();
}

async fn pump_both(
    shared: &Shared,
    entry: &Entry,
    client: &mut TcpStream,
    server: &mut TcpStream,
) -> Result<(), Broken> {
    client.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        pump(shared, Way::Up, entry, from_client, to_server),
        pump(shared, Way::Down, entry, from_server, to_client),
    )?;
    Ok(())
}

/// One direction of a connection. Reads on while bytes are held, so that a delay is no lack of room.
async fn pump(
    shared: &Shared,
    way: Way,
    entry: &Entry,
    from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> Result<(), Broken> {
    let (sender, mut held) = mpsc::channel::<(Instant, Vec<u8>)>(HELD);
    let write = async {
        while let Some((since, chunk)) = held.recv().await {
            hold(shared, way, since).await;
            let (passing, then) = shared.pass(way, chunk.len(), entry);
            to.write_all(&chunk[..passing]).await?;
            if let Some(then) = then {
                return Err(Broken::Cut(then));
            }
        }
        Ok(to.shutdown().await?)
    };
    tokio::try_join!(read(from, sender), write)?;
    Ok(())
}

async fn read(
    mut from: ReadHalf<'_>,
    held: mpsc::Sender<(Instant, Vec<u8>)>,
) -> Result<(), Broken> {
    loop {
        let mut chunk = vec![0; CHUNK];
        let length = from.read(&mut chunk).await?;
        chunk.truncate(length);
        if length == 0 || held.send((Instant::now(), chunk)).await.is_err() {
            return Ok(());
        }
    }
}

/// Until what has been there since then is due, by what the wire is meanwhile.
async fn hold(shared: &Shared, way: Way, since: Instant) {
    let mut state = shared.state.subscribe();
    loop {
        let wire = state.borrow_and_update().wire;
        let due = async {
            match wire.delay(way) {
                Some(delay) => tokio::time::sleep_until(since + delay).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            _ = state.changed() => {}
            () = due => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::AtomicUsize;
    use std::time::Instant;

    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    /// A server that sends back what it is sent, and a proxy before it.
    struct Echo {
        proxy: Proxy,
        received: Arc<AtomicUsize>,
    }

    impl Echo {
        fn open() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let server = listener.local_addr().expect("it is bound");
            let received = Arc::new(AtomicUsize::new(0));
            thread::spawn({
                let received = Arc::clone(&received);
                move || {
                    for client in listener.incoming() {
                        let (client, received) = (client, Arc::clone(&received));
                        thread::spawn(move || echo(&client.expect("a client"), &received));
                    }
                }
            });
            Self {
                proxy: Proxy::open(server),
                received,
            }
        }

        fn client(&self) -> TcpStream {
            let client = TcpStream::connect(self.proxy.address()).expect("the proxy listens");
            client.set_read_timeout(Some(PATIENCE)).expect("a socket");
            client
        }

        /// Waits until the server has had so many bytes.
        fn has_received(&self, bytes: usize) {
            let begun = Instant::now();
            while self.received.load(Ordering::SeqCst) != bytes {
                assert!(begun.elapsed() < PATIENCE, "{:?} of {bytes}", self.received);
                thread::yield_now();
            }
        }
    }

    fn echo(mut client: &TcpStream, received: &AtomicUsize) {
        let mut bytes = [0; 1_024];
        while let Ok(length @ 1..) = client.read(&mut bytes) {
            received.fetch_add(length, Ordering::SeqCst);
            if client.write_all(&bytes[..length]).is_err() {
                return;
            }
        }
    }

    fn send(client: &mut TcpStream, text: &str) {
        client.write_all(text.as_bytes()).expect("the proxy reads");
    }

    fn receive(client: &mut TcpStream, length: usize) -> String {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).expect("an answer");
        String::from_utf8(bytes).expect("text")
    }

    fn exchange(client: &mut TcpStream, text: &str) {
        send(client, text);
        assert_eq!(receive(client, text.len()), text);
    }

    /// Finds out how the connection ends, if nothing more is to be read.
    fn end(client: &mut TcpStream) -> ErrorKind {
        match client.read_exact(&mut [0]) {
            Ok(()) => panic!("more bytes"),
            Err(error) => error.kind(),
        }
    }

    #[test]
    fn what_is_sent_goes_through_and_is_counted() {
        let echo = Echo::open();
        let (mut a, mut b) = (echo.client(), echo.client());
        for _ in 0..3 {
            exchange(&mut a, "hello");
            exchange(&mut b, "hi");
        }
        let traffic = Traffic {
            connections: 2,
            up: 21,
            down: 21,
            round_trips: 6,
        };
        assert_eq!(echo.proxy.traffic(), traffic);
        assert_eq!(echo.proxy.traffic(), Traffic::default());
    }

    #[test]
    fn large_payloads_arrive_whole() {
        let echo = Echo::open();
        let mut client = echo.client();
        let mut writer = client.try_clone().expect("a socket");
        let text = "0123456789abcdef".repeat(1 << 16);
        let sent = text.clone();
        let sending = thread::spawn(move || send(&mut writer, &sent));
        assert!(receive(&mut client, text.len()) == text);
        sending.join().expect("all is sent");
    }

    #[test]
    fn an_end_of_one_direction_leaves_the_other() {
        let echo = Echo::open();
        let mut client = echo.client();
        send(&mut client, "hello");
        client
            .shutdown(std::net::Shutdown::Write)
            .expect("a socket");
        assert_eq!(receive(&mut client, 5), "hello");
        assert_eq!(end(&mut client), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_delay_holds_bytes_each_way() {
        let echo = Echo::open();
        let mut client = echo.client();
        let (up, down) = (Duration::from_millis(60), Duration::from_millis(30));
        echo.proxy.set(Wire::Delayed { up, down });
        let begun = Instant::now();
        exchange(&mut client, "hello");
        assert!(begun.elapsed() >= up + down, "{:?}", begun.elapsed());
    }

    #[test]
    fn what_is_held_goes_on_when_the_wire_opens() {
        let echo = Echo::open();
        let mut client = echo.client();
        let (up, down) = (Duration::ZERO, HOUR);
        echo.proxy.set(Wire::Delayed { up, down });
        send(&mut client, "hello");
        echo.has_received(5);
        echo.proxy.set(Wire::Open);
        assert_eq!(receive(&mut client, 5), "hello");
    }

    #[test]
    fn a_black_hole_takes_connections_and_lets_nothing_through() {
        let echo = Echo::open();
        let mut old = echo.client();
        exchange(&mut old, "hello");
        echo.proxy.set(Wire::BlackHole);
        let mut new = echo.client();
        for client in [&mut old, &mut new] {
            send(client, "hello");
            let moment = Duration::from_millis(50);
            client.set_read_timeout(Some(moment)).expect("a socket");
            assert_eq!(end(client), ErrorKind::WouldBlock);
        }
        echo.has_received(5);
        echo.proxy.set(Wire::Open);
        for client in [&mut old, &mut new] {
            client.set_read_timeout(Some(PATIENCE)).expect("a socket");
            assert_eq!(receive(client, 5), "hello");
        }
    }

    #[test]
    fn a_reset_meets_old_connections_and_new_ones() {
        let echo = Echo::open();
        let mut old = echo.client();
        exchange(&mut old, "hello");
        echo.proxy.set(Wire::Reset);
        assert_eq!(end(&mut old), ErrorKind::ConnectionReset);
        let mut new = echo.client();
        assert_eq!(end(&mut new), ErrorKind::ConnectionReset);
        echo.proxy.set(Wire::Open);
        exchange(&mut echo.client(), "hello");
        echo.has_received(10);
    }

    #[test]
    fn a_port_that_refuses_opens_again() {
        let echo = Echo::open();
        let mut old = echo.client();
        exchange(&mut old, "hello");
        for _ in 0..2 {
            echo.proxy.set(Wire::Refused);
            let refused = TcpStream::connect(echo.proxy.address()).expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            echo.proxy.set(Wire::Open);
            exchange(&mut echo.client(), "hello");
        }
        assert_eq!(end(&mut old), ErrorKind::ConnectionReset);
    }

    /// A cut; how many of five bytes arrive at the server, and of its answer at the client.
    const CUTS: [(Cut, usize, usize); 5] = [
        (Cut::BEFORE, 0, 0),
        (Cut::FromClient(2), 2, 0),
        (Cut::FromClient(4), 4, 0),
        (Cut::AFTER, 5, 0),
        (Cut::FromServer(2), 5, 2),
    ];

    #[test]
    fn a_cut_lets_exactly_so_many_bytes_through() {
        for (cut, at_server, at_client) in CUTS {
            let echo = Echo::open();
            let mut client = echo.client();
            exchange(&mut client, "hello");
            echo.proxy.cut(cut, Wire::Open);
            send(&mut client, "again");
            let mut answer = Vec::new();
            let end = client.read_to_end(&mut answer);
            let end = end.expect_err("the connection does not end well").kind();
            assert_eq!(end, ErrorKind::ConnectionReset, "{cut:?}");
            assert_eq!(answer, b"again"[..at_client], "{cut:?}");
            echo.has_received(5 + at_server);
            assert!(!echo.proxy.is_cut_pending());
        }
    }

    #[test]
    fn a_cut_comes_once_and_leaves_the_wire_as_told() {
        let echo = Echo::open();
        for then in [Wire::Open, Wire::Reset, Wire::Refused] {
            let mut client = echo.client();
            exchange(&mut client, "hello");
            echo.proxy.cut(Cut::AFTER, then);
            send(&mut client, "hello");
            assert_eq!(end(&mut client), ErrorKind::ConnectionReset);
            let next = TcpStream::connect(echo.proxy.address());
            let next =
                next.and_then(|mut next| next.write_all(b"hello").and(next.read(&mut [0; 5])));
            assert_eq!(next.is_ok(), then == Wire::Open, "{then:?}");
            echo.proxy.set(Wire::Open);
            exchange(&mut echo.client(), "hello");
        }
    }

    #[test]
    fn a_cut_is_none_of_a_connection_that_is_made_later() {
        let echo = Echo::open();
        let mut old = echo.client();
        exchange(&mut old, "hello");
        echo.proxy.cut(Cut::AFTER, Wire::Open);
        exchange(&mut echo.client(), "hello");
        assert!(echo.proxy.is_cut_pending());
        send(&mut old, "hello");
        assert_eq!(end(&mut old), ErrorKind::ConnectionReset);
    }

    #[test]
    fn a_cut_that_has_not_come_is_forgotten() {
        let echo = Echo::open();
        let mut client = echo.client();
        echo.proxy.cut(Cut::BEFORE, Wire::Reset);
        echo.proxy.set(Wire::Open);
        exchange(&mut client, "hello");
    }

    #[test]
    fn a_proxy_that_is_gone_leaves_no_connection() {
        let Echo { proxy, received } = Echo::open();
        let mut client = TcpStream::connect(proxy.address()).expect("the proxy listens");
        exchange(&mut client, "hello");
        let address = proxy.address();
        drop(proxy);
        assert_eq!(end(&mut client), ErrorKind::UnexpectedEof);
        TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(received.load(Ordering::SeqCst), 5);
    }
}
