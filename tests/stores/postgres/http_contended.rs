//! A server whose transactions are always in each other's way, and the requests that come to feel it.

use http::StatusCode;
use session_runtime::{Session, SessionLayer};
use session_tests::{PATIENCE, PostgresServer, Visitor};

use super::faults::before_writing;
use super::store_in;

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
}

async fn add_one(mut session: Session<Shop>) {
    *session.points.get_mut() += 1;
}

#[tokio::test]
async fn a_request_that_others_are_always_in_the_way_of_is_answered_503_and_the_next_one_is_served()
{
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let (client, store) = (server.client().await, store_in(server, "always").await);
    let body = "RAISE serialization_failure USING MESSAGE = 'no';";
    before_writing(&client, "always", body).await;
    let layer = SessionLayer::new(store);
    let mut visitor = Visitor::of(layer.clone());
    let reply = visitor.visit(add_one).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    before_writing(&client, "always", "").await;
    let mut visitor = visitor.moved_to(&layer.deadline(PATIENCE));
    let reply = visitor.visit(add_one).await;
    assert_eq!(reply.status, StatusCode::OK);
}
