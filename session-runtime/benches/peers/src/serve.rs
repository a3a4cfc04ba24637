//! How a process serves a contender. The crate in `apart` has it from here, too.

use std::future::Future;
use std::io::{Read, stdin};
use std::net::TcpListener;
use std::thread;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::runtime::{Builder, Runtime};

pub(crate) fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// Ends this process once nobody holds its input any more.
pub(crate) fn end_with_input() {
    thread::spawn(|| {
        drop(stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    });
}

/// Takes a free port, and prints it.
pub(crate) fn listener() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a listener");
    println!("{}", listener.local_addr().expect("an address").port());
    listener
}

/// Serves on one thread.
pub(crate) fn serve(app: impl Future<Output = Router>) {
    runtime().block_on(async {
        let app = app.await;
        let listener = tokio::net::TcpListener::from_std(listener()).expect("a listener");
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("no delay"));
        axum::serve(listener, app).await.expect("a server");
    });
}
