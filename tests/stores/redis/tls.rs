//! Servers that speak TLS.

use std::process::Command;

use redis::{ClientTlsConfig, TlsCertificates};
use session_runtime::store::{CachedStore, RedisOptions, RedisStore};
use session_tests::{PATIENCE, Port, RedisCluster, RedisSentinels, RedisServer, TempDir, require};

use super::{create, load, next, put, slot};

/// What makes an authority, a server's certificate for 127.0.0.1, and a client's, which it has signed.
const CERTIFY: &str = r"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=authority \
        -keyout authority.key -out authority.pem -addext basicConstraints=critical,CA:TRUE
    echo 'subjectAltName=IP:127.0.0.1' >names
    for name in server client; do
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name -keyout $name.key -out $name.csr
        openssl x509 -req -in $name.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 30 \
            -extfile names -out $name.pem
    done
";

struct Certificates(TempDir);

impl Certificates {
    fn make() -> Option<Self> {
        require("openssl")?;
        let folder = tempfile();
        let made = Command::new("sh")
            .args(["-ec", CERTIFY])
            .current_dir(folder.path())
            .output();
        let made = made.expect("a shell");
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        Some(Self(folder))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("text").to_owned()
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("it was made")
    }

    /// The options of a server that speaks TLS at this port, and asks clients for a certificate or does not.
    fn options(&self, port: &Port, asks: &str) -> Vec<String> {
        let port = port.number().to_string();
        [
            ("--tls-port", port),
            ("--tls-cert-file", self.path("server.pem")),
            ("--tls-key-file", self.path("server.key")),
            ("--tls-ca-cert-file", self.path("authority.pem")),
            ("--tls-auth-clients", asks.to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    fn start(&self, port: &Port, asks: &str) -> Option<RedisServer> {
        let options = self.options(port, asks);
        RedisServer::start(&options.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Options that trust the authority, and show a certificate if there is to be one.
    fn trusting(&self, shows: bool) -> RedisOptions {
        let own = || ClientTlsConfig {
            client_cert: self.read("client.pem"),
            client_key: self.read("client.key"),
        };
        options().certificates(TlsCertificates {
            root_cert: Some(self.read("authority.pem")),
            client_tls: shows.then(own),
        })
    }
}

fn tempfile() -> TempDir {
    TempDir::new().expect("a scratch folder")
}

fn options() -> RedisOptions {
    RedisStore::options().timeout(PATIENCE)
}

async fn refusal(options: RedisOptions, url: &str) -> String {
    options
        .connect(url)
        .await
        .expect_err("a refusal")
        .to_string()
}

/// Checks that a store works.
async fn works(store: &RedisStore) {
    let (key, created) = create(store, [slot("large", vec![b'x'; 64 << 10])]).await;
    let changed = next(&created, [slot("a", "1")]);
    put(store, &key, Some(&created), &changed).await;
    assert_eq!(load(store, &key).await, changed);
}

#[tokio::test]
async fn over_tls_a_server_is_used_whose_certificate_is_trusted() {
    let (Some(certificates), port) = (Certificates::make(), Port::free()) else {
        return;
    };
    let Some(server) = certificates.start(&port, "no") else {
        return;
    };
    let url = format!("rediss://{}", port.address());
    let store = certificates
        .trusting(false)
        .connect(&url)
        .await
        .expect("it is trusted");
    works(&store).await;
    let cached = CachedStore::new(store).expect("it tells of changes");
    let (key, _) = create(&cached, [slot("n", "0")]).await;
    super::cached::warm(&server, &cached, &key).await;

    let untrusted = refusal(options(), &url).await;
    let expected = format!(
        "the certificate of the Redis server at {} is not trusted",
        port.address()
    );
    assert!(untrusted.starts_with(&expected), "{untrusted}");
    assert!(
        untrusted.contains("`RedisOptions::certificates`"),
        "{untrusted}"
    );
    let another_host = format!("rediss://localhost:{}", port.number());
    let untrusted = refusal(certificates.trusting(false), &another_host).await;
    assert!(untrusted.contains("is not trusted"), "{untrusted}");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let (Some(certificates), port) = (Certificates::make(), Port::free()) else {
        return;
    };
    let Some(_server) = certificates.start(&port, "yes") else {
        return;
    };
    let url = format!("rediss://{}", port.address());
    let store = certificates.trusting(true).connect(&url).await;
    works(&store.expect("it is let in")).await;
    let unknown = refusal(certificates.trusting(false), &url).await;
    assert!(
        unknown.contains("asks for a certificate of this client's"),
        "{unknown}"
    );
}

#[tokio::test]
async fn the_nodes_of_a_cluster_are_spoken_to_over_tls() {
    let ports = [Port::free(), Port::free(), Port::free()];
    let Some(certificates) = Certificates::make() else {
        return;
    };
    let speaking = |port: &Port| certificates.options(port, "no");
    let Some(cluster) = RedisCluster::start_with_tls(&ports, speaking) else {
        return;
    };
    let urls = ports
        .each_ref()
        .map(|port| format!("rediss://{}", port.address()));
    let urls = urls.each_ref().map(String::as_str);
    let store = certificates.trusting(false).connect_cluster(&urls).await;
    let store = store.expect("it is trusted");
    while cluster
        .nodes()
        .iter()
        .any(|node| super::calls(node, "evalsha") == 0)
    {
        works(&store).await;
    }
    let cached = CachedStore::new(store).expect("it tells of changes");
    let (key, _) = create(&cached, [slot("n", "0")]).await;
    let nodes: Vec<_> = cluster.nodes().iter().collect();
    super::cached::warm_on(&nodes, &cached, &key).await;

    let untrusted = options().connect_cluster(&urls).await;
    let untrusted = untrusted.expect_err("nobody knows the authority");
    assert!(
        untrusted.to_string().contains("is not trusted"),
        "{untrusted}"
    );
}

#[tokio::test]
async fn sentinels_and_the_primary_are_spoken_to_over_tls() {
    let (Some(certificates), port, watch) = (Certificates::make(), Port::free(), Port::free())
    else {
        return;
    };
    let Some(server) = certificates.start(&port, "no") else {
        return;
    };
    let options = certificates.options(&watch, "no");
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let sentinel =
        RedisSentinels::one(port.number(), &options).expect("what has a server has a sentinel");
    let url = format!("rediss+sentinel://{}/shop", watch.address());
    let store = certificates
        .trusting(false)
        .connect(&url)
        .await
        .expect("both are trusted");
    works(&store).await;
    assert!(super::calls(&server, "evalsha") > 0);

    let untrusted = refusal(RedisStore::options().timeout(PATIENCE), &url).await;
    assert!(untrusted.contains("sentinels"), "{untrusted}");
    drop(sentinel);
}
