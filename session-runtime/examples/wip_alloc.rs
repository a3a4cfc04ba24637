#![allow(missing_docs, clippy::all)]
use axum::{Router, body::Body, routing::get};
use http::Request;
use session_runtime::{SessionLayer, store::MemoryStore};
use tower::ServiceExt;
fn count(rt: &tokio::runtime::Runtime, name: &str, app: Router) {
    let one = || {
        let app = app.clone();
        rt.block_on(async move {
            let r = Request::get("/").body(Body::empty()).unwrap();
            app.oneshot(r).await.unwrap()
        })
    };
    drop(one());
    drop(one());
    let c = allocation_counter::measure(|| drop(one()));
    println!("{name}: {} allocs {} bytes", c.count_total, c.bytes_total);
}
fn main() {
    let rt = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if std::env::args().nth(1).is_some() {
        let app = Router::new()
            .route("/", get(|| async { "ok" }))
            .layer(SessionLayer::new(MemoryStore::new()).sweep_every(None));
        for _ in 0..1000 {
            let app = app.clone();
            rt.block_on(async move {
                let r = Request::get("/").body(Body::empty()).unwrap();
                app.oneshot(r).await.unwrap()
            });
        }
        return;
    }
    let base = || Router::new().route("/", get(|| async { "ok" }));
    count(&rt, "plain", base());
    count(&rt, "noop", base().layer(tower::layer::layer_fn(|s| s)));
    count(
        &rt,
        "ext",
        base().layer(axum::Extension(std::sync::Arc::new(5u64))),
    );
    count(
        &rt,
        "ours",
        base().layer(SessionLayer::new(MemoryStore::new()).sweep_every(None)),
    );
}
