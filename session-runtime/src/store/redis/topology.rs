//! Which nodes of a Cluster have which keys.

use std::collections::HashMap;

use redis::{
    Cmd, ConnectionInfo, ErrorKind, FromRedisValue, RedisError, RedisResult, Value, cmd,
    from_redis_value,
};

use super::info::{at, has_tls};
use super::shard::Shard;

/// Builds the question, which each node answers as it sees the others.
pub(super) fn ask() -> Cmd {
    let mut shards = cmd("CLUSTER");
    shards.arg("SHARDS");
    shards
}

/// How many slots a Cluster has.
const SLOTS: usize = 16_384;

/// Reads the answer: each primary, with slots or without, but for those that have
/// failed and have none.
///
/// # Errors
///
/// If a slot is nobody's: then it may be the view of a node that knows nothing of the others.
pub(super) fn read(view: Value, info: &ConnectionInfo) -> RedisResult<Vec<Shard>> {
    let view: Vec<HashMap<String, Value>> = from_redis_value(view)?;
    let (mut shards, mut covered) = (Vec::new(), 0);
    for mut shard in view {
        let slots: Vec<u16> = take(&mut shard, "slots")?.unwrap_or_default();
        let ranges: Vec<_> = slots
            .chunks(2)
            .map(|range| (range[0], range[range.len() - 1]))
            .collect();
        let lengths = ranges
            .iter()
            .map(|(first, last)| usize::from(last.saturating_sub(*first)) + 1);
        covered += lengths.sum::<usize>();
        let nodes: Vec<HashMap<String, Value>> = take(&mut shard, "nodes")?.unwrap_or_default();
        let mut is_up = ranges.is_empty();
        for node in nodes {
            if let Some(info) = primary(node, info)? {
                is_up = true;
                shards.push(Shard::of(info, ranges.clone()));
            }
        }
        if !is_up {
            return Err((
                ErrorKind::ClusterConnectionNotFound,
                "a part of the Cluster is down",
            )
                .into());
        }
    }
    if covered < SLOTS {
        return Err((
            ErrorKind::ClusterConnectionNotFound,
            "a node knows not of all parts of the Cluster",
        )
            .into());
    }
    shards.sort_by_key(|shard| shard.info().addr().to_string());
    Ok(shards)
}

/// Returns how to connect to a node, if it is a primary that has not failed.
fn primary(
    mut node: HashMap<String, Value>,
    info: &ConnectionInfo,
) -> RedisResult<Option<ConnectionInfo>> {
    let role: Option<String> = take(&mut node, "role")?;
    let health: Option<String> = take(&mut node, "health")?;
    if role.as_deref() != Some("master") || health.as_deref() == Some("fail") {
        return Ok(None);
    }
    let port = take(&mut node, if has_tls(info) { "tls-port" } else { "port" })?;
    // Where the node does not say how it is reached, its address.
    let endpoint: Option<String> = take(&mut node, "endpoint")?;
    let endpoint = endpoint.filter(|endpoint| !["", "?"].contains(&endpoint.as_str()));
    let host = match endpoint {
        Some(host) => Some(host),
        None => take(&mut node, "ip")?.filter(|ip: &String| !ip.is_empty()),
    };
    match (host, port) {
        (Some(host), Some(port)) => Ok(Some(at(info, host, port))),
        _ => Err(unknown()),
    }
}

fn take<T: FromRedisValue>(map: &mut HashMap<String, Value>, name: &str) -> RedisResult<Option<T>> {
    match map.remove(name) {
        None | Some(Value::Nil) => Ok(None),
        Some(value) => Ok(Some(from_redis_value(value)?)),
    }
}

fn unknown() -> RedisError {
    (
        ErrorKind::UnexpectedReturnType,
        "a node of the Cluster does not say where it is",
    )
        .into()
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    /// A shard that has these slots and nodes, each with its port, role and health.
    fn shard(slots: &[i64], nodes: &[(i64, &str, &str)]) -> Value {
        let node = |&(port, role, health): &(i64, &str, &str)| {
            Value::Map(vec![
                (text("port"), Value::Int(port)),
                (text("endpoint"), text("h")),
                (text("role"), text(role)),
                (text("health"), text(health)),
            ])
        };
        let slots = slots.iter().copied().map(Value::Int).collect();
        Value::Map(vec![
            (text("slots"), Value::Array(slots)),
            (
                text("nodes"),
                Value::Array(nodes.iter().map(node).collect()),
            ),
        ])
    }

    fn read_all(shards: Vec<Value>) -> RedisResult<Vec<Shard>> {
        let info = "redis://any".into_connection_info().expect("a URL");
        read(Value::Array(shards), &info)
    }

    #[test]
    fn primaries_are_read_with_slots_or_without_and_nothing_where_one_with_slots_has_failed() {
        let most = || shard(&[0, 5, 7, 16_383], &[(1, "master", "online")]);
        let at = |port, ranges: &[(u16, u16)]| {
            let url = format!("redis://h:{port}");
            let info = url.into_connection_info().expect("a URL");
            Shard::of(info, ranges.to_vec())
        };
        let replicated = &[(3, "replica", "online"), (2, "master", "loading")];
        let gone = shard(&[], &[(4, "master", "fail")]);
        let empty = || shard(&[], &[(5, "master", "online")]);
        let shards = read_all(vec![shard(&[6, 6], replicated), most(), gone, empty()]);
        let expected = [at(1, &[(0, 5), (7, 16_383)]), at(2, &[(6, 6)]), at(5, &[])];
        assert!(shards.expect("a view") == expected);

        let failed = &[(2, "master", "fail"), (3, "replica", "online")];
        assert!(read_all(vec![most(), shard(&[6, 6], failed)]).is_err());
        // Of one that has been reset, and knows of no other.
        assert!(read_all(vec![empty()]).is_err());
        assert!(read_all(vec![most(), empty()]).is_err());
    }
}
