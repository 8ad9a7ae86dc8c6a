//! Redis Sentinel and Redis Cluster: one count for all nodes that survives the loss of the primary.

use crate::dir::Dir;
use crate::support::{Limits, Node, Redis, free_port, until, until_async};
use std::process::Command;
use tidegate::limit::LimitError;

const STRICT: &str = "on_store_failure: deny, store_timeout: 2s";

/// A folder in another, by its name.
fn inner(folder: &Dir, name: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path.display().to_string()
}

fn limits(url: &str) -> Limits<'static> {
    Limits {
        team: "[ { requests: 3, per: 30d } ]",
        key: "[ { tokens: 1000, per: 30d } ]",
        provider: "[ { requests: 99, per: 30d } ]",
        store: format!("{{ store: \"{url}\", {STRICT} }}"),
    }
}

/// The user of `deploy/redis.conf`, with the further rights that its comment names for this kind of server.
fn restrict(server: &Redis, kind: &str) {
    let example = include_str!("../../deploy/redis.conf");
    let user = example.lines().find_map(|line| line.strip_prefix("user tidegate ")).unwrap();
    let comment = example.lines().find(|line| line.starts_with('#') && line.contains("+role")).unwrap();
    let more = comment.split('`').skip_while(|part| !part.contains(kind)).nth(1).unwrap();
    let words: Vec<_> = ["ACL", "SETUSER", "tidegate"].into_iter().chain(user.split(' ')).chain(more.split(' ')).collect();
    let _ok: String = server.command(&words);
}

/// How the gateway logs in there.
const LOGIN: &str = "tidegate:replace-this-password";

/// Two nodes that share a count: three requests in all, two before `lose` and one after it.
async fn count_survives(url: &str, lose: impl AsyncFnOnce()) {
    let (one, two) = (Node::new(&limits(url)), Node::new(&limits(url)));
    until_async("the first decision", async || one.admit(1).await.is_ok()).await;
    until_async("the second decision", async || two.admit(1).await.is_ok()).await;
    lose().await;
    // A decision whose answer was lost may have been counted, so there is one left at most.
    let mut admitted = 0;
    until_async("a refusal by a limit at both nodes", async || {
        let mut refused = 0;
        for node in [&one, &two] {
            match node.admit(1).await {
                Ok(_) => admitted += 1,
                Err(LimitError::Exceeded(_)) => refused += 1,
                Err(LimitError::Store) => {}
            }
        }
        refused == 2
    })
    .await;
    assert!(admitted <= 1, "the count was lost: {admitted} more");
}

#[tokio::test]
async fn the_count_survives_a_failover_by_sentinel() {
    let folder = Dir::new();
    let (primary_port, replica_port, sentinel_port, nobody) = (free_port(), free_port(), free_port(), free_port());
    let password = ["--requirepass", "of-redis", "--masterauth", "of-redis"];
    let start = |port: u16, more: &[&str]| {
        Redis::with(port, &[&password, more, &["--dir", &inner(&folder, &port.to_string())]].concat(), Some("of-redis"))
    };
    let mut primary = start(primary_port, &[]);
    let replica = start(replica_port, &["--replicaof", "127.0.0.1", &primary_port.to_string()]);
    let text = format!(
        "port {sentinel_port}\nbind 127.0.0.1\ndir {}\nrequirepass of-sentinel\nsentinel monitor main 127.0.0.1 {primary_port} 1\n\
         sentinel auth-pass main of-redis\nsentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n",
        inner(&folder, "sentinel")
    );
    let config = folder.write("sentinel.conf", &text);
    let sentinel = Redis::run(sentinel_port, &[&config.display().to_string(), "--sentinel"], Some("of-sentinel"));
    [&primary, &replica].into_iter().for_each(|server| restrict(server, "With Sentinels"));
    until("the replica's link", || replica.command::<String>(&["INFO", "replication"]).contains("master_link_status:up"));
    until("the Sentinel's knowledge of the replica", || {
        sentinel.command::<Vec<redis::Value>>(&["SENTINEL", "REPLICAS", "main"]).len() == 1
    });
    // The first Sentinel is not there.
    let url = format!("redis-sentinel://{LOGIN}@127.0.0.1:{nobody},127.0.0.1:{sentinel_port}/main?sentinel_password=of-sentinel");
    count_survives(&url, async || {
        let _copies: u64 = primary.command(&["WAIT", "1", "10000"]);
        primary.stop();
        until("the promotion of the replica", || replica.command::<String>(&["INFO", "replication"]).contains("role:master"));
    })
    .await;
}

#[tokio::test]
async fn the_count_survives_the_loss_of_a_node_of_a_cluster_and_lies_in_one_slot() {
    let folder = Dir::new();
    let mut nodes: Vec<Redis> = (0..6)
        .map(|_| {
            let (port, bus) = (free_port(), free_port().to_string());
            let dir = inner(&folder, &port.to_string());
            let more = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus, "--dir", &dir];
            Redis::with(port, &more, None)
        })
        .collect();
    let addresses: Vec<String> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    let made = Command::new("redis-cli")
        .args(["--cluster", "create"])
        .args(&addresses)
        .args(["--cluster-replicas", "1", "--cluster-yes"])
        .output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    until("the cluster", || nodes.iter().all(|node| node.command::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")));
    nodes.iter().for_each(|node| restrict(node, "in a cluster"));
    let url = format!("redis-cluster://{LOGIN}@{}", addresses.join(","));
    count_survives(&url, async || {
        let is_primary = |node: &Redis| node.command::<String>(&["INFO", "replication"]).contains("role:master");
        let keys = |node: &Redis| node.command::<Vec<String>>(&["KEYS", "*"]).len();
        let holders: Vec<usize> = (0..6).filter(|n| is_primary(&nodes[*n]) && keys(&nodes[*n]) > 0).collect();
        assert_eq!(holders.len(), 1, "all keys share one slot");
        let holder = holders[0];
        assert!(keys(&nodes[holder]) >= 4, "two registrations and the limits");
        let _copies: u64 = nodes[holder].command(&["WAIT", "1", "10000"]);
        nodes[holder].stop();
        let others: Vec<&Redis> = (0..6).filter(|n| *n != holder).map(|n| &nodes[n]).collect();
        until("the promotion of a replica", || others.iter().any(|node| is_primary(node) && keys(node) > 0));
    })
    .await;
}
