//! The connections to a Cluster.

use redis::ServerErrorKind::{
    Ask, BusyLoading, ClusterDown, MasterDown, Moved, ReadOnly, TryAgain,
};
use redis::aio::ConnectionLike;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{Cmd, ConnectionInfo, ErrorKind, RedisError, RedisResult, Value};

use super::fault::extracted;
use super::script::Asked;
use super::shard::Shard;
use super::topology;

/// A Cluster.
pub(super) struct Cluster {
    /// How to be let in by a node. `None` if the connections are the app's own.
    pub(super) info: Option<ConnectionInfo>,
    /// Asks once. `None` if the connections are the app's own.
    pub(super) once: Option<ClusterConnection>,
    /// Goes after slots that move, and repeats a command whose connection has broken, though it may have been run.
    pub(super) following: ClusterConnection,
}

impl Cluster {
    pub(super) async fn shards(&self) -> RedisResult<Vec<Shard>> {
        let any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
        let mut following = self.following.clone();
        let view = following.route_command(topology::ask(), any);
        self.read(extracted(view).await?)
    }

    /// Reads what a node has answered to [`topology::ask`].
    pub(super) fn read(&self, view: Value) -> RedisResult<Vec<Shard>> {
        match &self.info {
            Some(info) => topology::read(view, info),
            None => Ok(Vec::new()),
        }
    }

    pub(super) async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        extracted(self.following.clone().req_packed_command(command)).await
    }

    /// Asks the primary that has a slot.
    pub(super) async fn ask_at(&self, command: &Cmd, slot: u16) -> RedisResult<Value> {
        let node = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
        let mut connection = self.following.clone();
        let route = RoutingInfo::SingleNode(node);
        extracted(connection.route_command(command.clone(), route)).await
    }

    /// Asks repeatedly only if a node has said that it did nothing.
    pub(super) async fn ask_once(&self, command: &Cmd) -> RedisResult<(Value, Asked)> {
        if let Some(mut once) = self.once.clone() {
            let answer = extracted(once.req_packed_command(command)).await;
            if !answer.as_ref().is_err_and(was_refused) {
                return answer.map(|value| (value, Asked::Once));
            }
        }
        let value = self.ask(command).await?;
        Ok((value, Asked::Repeatedly))
    }
}

/// Returns `true` if a node has refused the command for a reason that another one, or a moment, may mend.
fn was_refused(error: &RedisError) -> bool {
    let ErrorKind::Server(kind) = error.kind() else {
        return false;
    };
    matches!(
        kind,
        Ask | BusyLoading | ClusterDown | MasterDown | Moved | ReadOnly | TryAgain
    )
}
