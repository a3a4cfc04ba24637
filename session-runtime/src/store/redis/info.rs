//! How a server is reached, and how it lets one in.

use redis::{ConnectionAddr, ConnectionInfo, ProtocolVersion};

/// Returns where else the same kind of server is.
pub(super) fn at(info: &ConnectionInfo, host: String, port: u16) -> ConnectionInfo {
    let addr = match info.addr().clone() {
        ConnectionAddr::TcpTls {
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure,
            tls_params,
        },
        _ => ConnectionAddr::Tcp(host, port),
    };
    info.clone().set_addr(addr)
}

/// Returns `true` if such a server can tell something without being asked.
pub(super) fn has_pushes(info: &ConnectionInfo) -> bool {
    info.redis_settings().protocol() == ProtocolVersion::RESP3
}

#[cfg(any(feature = "redis-cluster", feature = "redis-tls"))]
pub(super) fn has_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}
