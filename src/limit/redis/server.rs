//! Connects to one Redis server, the primary that Sentinels report, or a Redis Cluster.
//!
//! | URL | connects to |
//! | --- | --- |
//! | `redis://[[user]:password@]host[:port][/db]` | that server |
//! | `redis-sentinel://[[user]:password@]host[:port],…[/name[/db]]` | the primary that these Sentinels report |
//! | `redis-cluster://[[user]:password@]host[:port],…` | the cluster that these nodes belong to |
//!
//! `rediss` in place of `redis` is TLS, also to Sentinels. User and password are those of the Redis servers; those of
//! Sentinels are `?sentinel_username=…&sentinel_password=…`.

use crate::percent;
use ::redis::aio::{ConnectionLike, MultiplexedConnection};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, TlsMode, Value,
};
use std::borrow::Cow;
use std::time::Duration;

/// The primary's name in Redis' example configuration.
const DEFAULT_NAME: &str = "mymaster";
/// Default port of Sentinels.
const SENTINEL_PORT: u16 = 26379;
/// Timeout of one connection, including TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of connecting to any of several hosts.
const CONNECT_ANY_TIMEOUT: Duration = Duration::from_secs(8);

/// A parsed URL.
pub enum Server {
    /// One server.
    Single(Box<Client>),
    /// The primary that Sentinels report.
    Sentinel(Box<SentinelClient>),
    /// A cluster.
    Cluster(Box<ClusterClient>),
}

/// An open connection; clone it for each use.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    Node(MultiplexedConnection),
    /// To the nodes of a cluster.
    Cluster(ClusterConnection),
}

impl Server {
    /// Reads a URL; nothing is connected to. Returns host and port beside it, for messages.
    ///
    /// # Errors
    /// When it is not one of the URLs above.
    pub fn open(url: &str) -> RedisResult<(Self, String)> {
        let Some(parts) = Parts::of(url)? else {
            let client = Client::open(url)?;
            let address = client.get_connection_info().addr().to_string();
            return Ok((Self::Single(Box::new(client)), address));
        };
        let address = parts.hosts.join(",");
        let server = if parts.cluster { parts.cluster() } else { parts.sentinel() };
        Ok((server?, address))
    }

    /// Connects.
    ///
    /// # Errors
    /// When connecting fails or times out.
    pub async fn connect(&mut self) -> RedisResult<Connection> {
        // Callers apply their own response timeout.
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
        let timeout = if let Self::Single(_) = self { CONNECT_TIMEOUT } else { CONNECT_ANY_TIMEOUT };
        let connect = async {
            match self {
                Self::Single(client) => client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Node),
                Self::Sentinel(client) => client.get_async_connection_with_config(&config).await.map(Connection::Node),
                Self::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
            }
        };
        tokio::time::timeout(timeout, connect).await.map_err(|_| late())?
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Node(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Node(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Node(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// The passwords in a URL of any of these forms.
pub fn passwords(url: &str) -> Vec<Cow<'_, str>> {
    let (rest, query) = url.split_once('?').unwrap_or((url, ""));
    let authority = rest.split_once("://").map_or(rest, |(_, rest)| rest);
    let user = authority.rsplit_once('@').and_then(|(user, _)| Some(user.split_once(':')?.1));
    let sentinel = query.split('&').filter_map(|pair| pair.strip_prefix("sentinel_password="));
    user.into_iter().chain(sentinel).map(|password| percent::decode(password).unwrap_or(Cow::Borrowed(password))).collect()
}

/// A parsed URL of several hosts.
struct Parts<'a> {
    cluster: bool,
    scheme: &'static str,
    /// Includes the trailing `@`, if there is one.
    user: &'a str,
    hosts: Vec<&'a str>,
    path: Vec<&'a str>,
    query: Vec<(&'a str, &'a str)>,
}

/// The error of a call that has not ended in its time.
pub(super) fn late() -> RedisError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

fn invalid_url(why: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, why).into()
}

impl<'a> Parts<'a> {
    /// `None` for a URL of one server.
    fn of(url: &'a str) -> RedisResult<Option<Self>> {
        const SCHEMES: [(&str, bool, &str); 4] = [
            ("redis-sentinel://", false, "redis"),
            ("rediss-sentinel://", false, "rediss"),
            ("redis-cluster://", true, "redis"),
            ("rediss-cluster://", true, "rediss"),
        ];
        let found = SCHEMES.iter().find_map(|(prefix, cluster, scheme)| Some((url.strip_prefix(prefix)?, *cluster, *scheme)));
        let Some((rest, cluster, scheme)) = found else { return Ok(None) };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.split_at_checked(authority.rfind('@').map_or(0, |at| at + 1)).unwrap_or(("", authority));
        let hosts: Vec<_> = hosts.split(',').map(str::trim).collect();
        if hosts.iter().any(|host| host.is_empty()) || url.contains('#') {
            return Err(invalid_url("expected hosts separated by commas"));
        }
        let path = path.split('/').filter(|part| !part.is_empty()).collect();
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Ok(Some(Self { cluster, scheme, user, hosts, path, query: pairs.collect() }))
    }

    fn cluster(&self) -> RedisResult<Server> {
        if !self.path.is_empty() || !self.query.is_empty() {
            return Err(invalid_url("a cluster URL has no path and no query: a cluster has one database"));
        }
        let nodes = self.hosts.iter().map(|host| format!("{}://{}{host}", self.scheme, self.user));
        // No retries: a decision whose reply was lost would be charged twice. The client still follows topology
        // changes.
        let builder = ClusterClient::builder(nodes).retries(0).connection_timeout(CONNECT_TIMEOUT).response_timeout(CONNECT_TIMEOUT);
        Ok(Server::Cluster(Box::new(builder.build()?)))
    }

    fn sentinel(&self) -> RedisResult<Server> {
        let (name, db) = match self.path.as_slice() {
            [] => (DEFAULT_NAME, "0"),
            [name] => (*name, "0"),
            [name, db] => (*name, *db),
            _ => return Err(invalid_url("the path of a Sentinel URL is the name of the primary and a database")),
        };
        let decoded = |text| percent::decode(text).ok_or(invalid_url("bad percent-encoding"));
        let with_port = |host: &str| {
            let bare = host.rsplit(']').next().is_none_or(|end| !end.contains(':'));
            if bare { format!("{}://{host}:{SENTINEL_PORT}", self.scheme) } else { format!("{}://{host}", self.scheme) }
        };
        let sentinels = self.hosts.iter().map(|host| Ok(with_port(host).into_connection_info()?.addr().clone()));
        let sentinels = sentinels.collect::<RedisResult<Vec<_>>>()?;
        let primary = format!("{}://{}primary/{db}", self.scheme, self.user).into_connection_info()?;
        let settings = primary.redis_settings();
        let mut builder =
            SentinelClientBuilder::new(sentinels, decoded(name)?, SentinelServerType::Master)?.set_client_to_redis_db(settings.db());
        if let Some(user) = settings.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if self.scheme == "rediss" {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        for (key, value) in &self.query {
            builder = match *key {
                "sentinel_username" => builder.set_client_to_sentinel_username(decoded(value)?),
                "sentinel_password" => builder.set_client_to_sentinel_password(decoded(value)?),
                _ => return Err(invalid_url("a Sentinel URL accepts `sentinel_username` and `sentinel_password` only")),
            };
        }
        Ok(Server::Sentinel(Box::new(builder.build()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_url_has_its_kind_of_server() {
        for (url, kind, address) in [
            ("redis://127.0.0.1:7000/2", "single", "127.0.0.1:7000"),
            ("rediss://u:p@redis.internal:6380", "single", "redis.internal:6380"),
            ("redis-sentinel://10.0.0.1,10.0.0.2:26380", "sentinel", "10.0.0.1,10.0.0.2:26380"),
            ("rediss-sentinel://u:p%40x@[::1],[::1]:26380/main/3?sentinel_password=s%2F", "sentinel", "[::1],[::1]:26380"),
            ("redis-cluster://u:p@10.0.0.1:7000,10.0.0.2", "cluster", "10.0.0.1:7000,10.0.0.2"),
            ("rediss-cluster://:p@a.internal:7000", "cluster", "a.internal:7000"),
        ] {
            let (server, shown) = Server::open(url).unwrap_or_else(|e| panic!("{url}: {e}"));
            let found = match server {
                Server::Single(_) => "single",
                Server::Sentinel(_) => "sentinel",
                Server::Cluster(_) => "cluster",
            };
            assert_eq!((found, shown.as_str()), (kind, address), "{url}");
        }
        for url in [
            "http://127.0.0.1",
            "redis-sentinel://",
            "redis-sentinel://a,,b/main",
            "redis-sentinel://a/main/0/more",
            "redis-sentinel://a/main/db",
            "redis-sentinel://a/main?other=1",
            "redis-sentinel://a/main#fragment",
            "redis-cluster://a:7000/1",
            "redis-cluster://a:port",
            "redis-cluster://",
        ] {
            assert!(Server::open(url).is_err(), "{url}");
        }
    }
    #[test]
    fn the_passwords_of_a_url_are_found() {
        for (url, want) in [
            ("redis://127.0.0.1:7000/2", &[][..]),
            ("rediss://u:p%40ss@redis.internal:6380", &["p@ss"]),
            ("redis-sentinel://:one@a:1,b:2/main?sentinel_username=u&sentinel_password=t%2Fwo", &["one", "t/wo"]),
            ("redis-cluster://u:o:ne@a:7000,b", &["o:ne"]),
        ] {
            assert_eq!(passwords(url), want, "{url}");
        }
    }
}
