//! Sessions on a server that is full.

use session_runtime::{Error, Session, SessionLayer, UserId};
use session_tests::{PATIENCE, RedisServer, Visitor};

#[derive(Session)]
struct Shop {
    #[merge(sum)]
    points: u32,
}

async fn log_in(mut session: Session<Shop>) -> Result<(), Error> {
    *session.points.get_mut() += 1;
    session.login("ada").await
}

#[tokio::test]
async fn on_a_full_server_a_user_can_be_logged_out_everywhere() {
    let Some(server) = RedisServer::start(&[]) else {
        return;
    };
    let layer = SessionLayer::new(server.store().await).deadline(PATIENCE);
    let ada = UserId::new("ada");
    for _ in 0..3 {
        let reply = Visitor::of(layer.clone()).visit(log_in).await;
        assert!(reply.status.is_success(), "{}", reply.body);
    }
    let () = server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let sessions = layer.sessions();
    let devices = sessions.list(&ada).await.expect("a load goes on");
    let others = sessions.revoke_others(&ada, devices[0].id()).await;
    assert_eq!(others.expect("it takes no room"), 2);
    assert_eq!(sessions.revoke_all(&ada).await.unwrap(), 1);
}
