//! A small web shop: a typed session in an app of several pages. `cargo run -p session-examples --example shop`
//!
//! Begin with `shop.rs`, where the session is declared; the pages are in `browse.rs`, `cart.rs`, `checkout.rs`,
//! `sign_in.rs`,
//! `account.rs` and `visit.rs`.
#![expect(clippy::print_stdout, reason = "it says where the shop is")]

mod account;
mod accounts;
mod agent;
mod args;
mod assets;
mod browse;
mod cart;
mod catalogue;
mod checkout;
mod credentials;
mod errors;
mod money;
mod origin;
mod page;
mod shop;
mod sign_in;
mod stores;
mod visit;
mod when;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::{Router, middleware};
use session_runtime::{SessionLayer, WhenFull};
use tokio::net::TcpListener;

use accounts::Accounts;
use args::Args;
use checkout::Patience;
use stores::Place;

/// No form of this shop is longer.
const LARGEST_FORM: usize = 16 * 1024;

/// Who signs in on one more is signed out on the one that has been signed in on for longest.
const MOST_DEVICES: usize = 10;

/// How long requests may take that are under way when the shop closes.
const CLOSING_TIME: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let args = match Args::parse(std::env::args().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            print!("{}", args::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(refusal) => {
            eprintln!("shop: {refusal}\n\n{}", args::USAGE);
            return ExitCode::from(2);
        }
    };
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("shop: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), String> {
    let store = &args.store;
    let sessions = sessions(store, args.deadline).await?;
    let ledger = &args.accounts;
    let accounts = Accounts::open(ledger)
        .map_err(|error| format!("accounts cannot be kept in {ledger}: {error}"))?;
    if let Err(failure) = account::see_all_out(&accounts, &sessions.sessions()).await {
        return Err(format!(
            "who was leaving could not be seen out: {failure:?}"
        ));
    }
    let address = &args.address;
    let listener = TcpListener::bind(address.as_str()).await.map_err(|error| {
        format!("cannot listen on {address}: {error} (`--address 127.0.0.1:0` takes any free port)")
    })?;
    let bound = listener.local_addr().map_err(|error| error.to_string())?;

    println!("The shop is open at http://{bound}");
    println!("Sessions are kept in {store}.");
    println!("Accounts are kept in {ledger}.");
    println!("It speaks plain http, so the session cookie is not `Secure`: for development only.");
    println!("Ctrl-C closes it.");

    let app = app(sessions.clone(), accounts, args.patience);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(closing());
    tokio::select! {
        served = serving.into_future() => served.map_err(|error| error.to_string())?,
        () = async { closing().await; tokio::time::sleep(CLOSING_TIME).await } => {}
    }
    sessions.idle().await;
    println!("The shop is closed.");
    Ok(())
}

async fn sessions(store: &Place, deadline: Duration) -> Result<SessionLayer, String> {
    // So that a second try fits in.
    let layer = store.open(deadline / 2).await?.deadline(deadline);
    let layer = layer.insecure().client_address(|request| {
        let peer: &ConnectInfo<SocketAddr> = request.extensions.get()?;
        Some(peer.0.ip())
    });
    Ok(layer.max_sessions(MOST_DEVICES, WhenFull::EndOldest))
}

fn app(sessions: SessionLayer, accounts: Accounts, patience: Patience) -> Router {
    Router::new()
        .merge(browse::routes())
        .merge(cart::routes())
        .merge(checkout::routes(patience))
        .merge(sign_in::routes(accounts.clone()))
        .merge(account::routes(accounts))
        .merge(visit::routes())
        .layer(sessions)
        .merge(assets::routes())
        .layer(middleware::from_fn(origin::check))
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        // Outermost, since the session layer has errors of its own.
        .layer(middleware::map_response(errors::dress))
}

/// Ctrl-C, or what a service manager sends.
async fn closing() {
    #[cfg(unix)]
    let terminated = async {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => drop(terminated.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<()>();
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
