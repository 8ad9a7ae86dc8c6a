//! Keys, permissions and limits, as a client meets them.

use crate::harness::gateway::Gateway;
use crate::harness::http1::{Answer, request};
use crate::harness::manual::Manual;
use crate::harness::sim::Sim;
use crate::harness::{chat, streamed};
use tidegate::simulate::seen::sha256_hex;

/// Every limit refills so slowly that it does not during a test.
async fn gateway(sim: &Sim) -> Gateway {
    let key = |id: &str, more: &str| format!("      - {{ id: {id}, sha256: \"{}\"{more} }}\n", sha256_hex(format!("tg-{id}").as_bytes()));
    let target = "targets: [ { provider: sim, model: m } ]";
    let config = format!(
        "providers: {{ sim: {} }}\n\
         routes:\n  open: {{ {target} }}\n  other: {{ {target} }}\n  \"fine/*\": {{ targets: [ {{ provider: sim, model: \"*\" }} ], retry: {{ attempts: 1 }} }}\n  \
         twice: {{ {target}, limits: [ {{ requests: 2, per: 30d }} ] }}\n\
         teams:\n  red:\n    routes: [open, other, twice]\n    keys:\n{}{}{}{}{}\
         \n  blue:\n    limits: [ {{ requests: 3, per: 30d }} ]\n    keys:\n{}{}\n  \
         gray:\n    keys:\n{}{}\n",
        sim.provider(),
        key("good", ""),
        key("off", ", disabled: true"),
        key("old", ", expires: 2020-01-01T00:00:00Z"),
        key("narrow", ", routes: [open]"),
        key("few", ", limits: [ { requests: 2, per: 30d } ]"),
        key("blue1", ""),
        key("blue2", ""),
        key("tokens", ", limits: [ { tokens: 100, per: 30d } ]"),
        key("alone", ", limits: [ { concurrent: 1 } ]"),
    );
    Gateway::start(&config).await
}

async fn ask(gateway: &Gateway, key: &str, route: &str) -> Answer {
    let bearer = format!("Bearer tg-{key}");
    gateway.chat_as(&[("authorization", &bearer)], &chat(route)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_a_key_its_sender_sees_the_same() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let mut told = Vec::new();
    for headers in [
        &[][..],
        &[("authorization", "Bearer tg-nobody")],
        &[("authorization", "Bearer tg-off")],
        &[("authorization", "Bearer tg-old")],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic dGctZ29vZA==")],
        &[("authorization", "Bearer tg-good"), ("authorization", "Bearer tg-good")],
        &[("x-api-key", "")],
    ] {
        let answer = gateway.chat_as(headers, &chat("open")).await;
        answer.error();
        assert_eq!((answer.status(), answer.header("www-authenticate")), (401, "Bearer"), "{headers:?}");
        told.push(answer.text());
        assert_eq!(gateway.get("/v1/models", headers).await.status(), 401);
    }
    assert!(told.windows(2).all(|w| w[0] == w[1]), "{told:?}");
    for reason in ["missing", "unknown", "disabled", "expired", "malformed"] {
        gateway.output.line(&format!("\"reason\":\"{reason}\"")).await;
        assert!(gateway.metric(&format!("tidegate_auth_failures_total{{reason=\"{reason}\"}}")).await > 0.0, "{reason}");
    }
    for headers in [[("authorization", "bearer tg-good")], [("x-api-key", "tg-good")], [("api-key", "tg-good")]] {
        assert_eq!(gateway.chat_as(&headers, &chat("open")).await.status(), 200, "{headers:?}");
    }
    assert_eq!(sim.count(), 3);
    assert!(!gateway.output.text().contains("tg-good"), "a key in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_sees_and_uses_its_own_routes_only() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let models = async |key: &str| -> Vec<String> {
        let list = gateway.get("/v1/models", &[("authorization", &format!("Bearer tg-{key}"))]).await.json();
        assert_eq!(list["object"], "list");
        let patterns = list["patterns"].as_array().unwrap().iter();
        let models = list["data"].as_array().unwrap().iter().map(|m| &m["id"]);
        models.chain(patterns).map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(models("good").await, ["open", "other", "twice"]);
    assert_eq!(models("narrow").await, ["open"]);
    assert_eq!(models("blue1").await, ["open", "other", "twice", "fine/*"]);
    for (key, route, status, kind) in [
        ("good", "open", 200, ""),
        ("good", "fine/m", 403, "permission_error"),
        ("narrow", "other", 403, "permission_error"),
        ("good", "no-such", 404, "not_found_error"),
    ] {
        let answer = ask(&gateway, key, route).await;
        assert_eq!(answer.status(), status, "{key} {route}: {}", answer.text());
        if status != 200 {
            answer.error();
            assert_eq!(answer.json()["error"]["type"], kind);
        }
    }
    gateway.output.line("\"reason\":\"forbidden\"").await;
    assert_eq!(gateway.metric("tidegate_auth_failures_total{reason=\"forbidden\"}").await, 2.0);
    let own = gateway.get("/v1/models/open", &[("authorization", "Bearer tg-narrow")]).await;
    assert_eq!((own.status(), own.json()["id"].as_str()), (200, Some("open")));
    // A route of others, one that nobody has, and what is no text: told alike.
    for (id, name) in [("other", "other"), ("nobody", "nobody"), ("%ff", "%ff")] {
        let answer = gateway.get(&format!("/v1/models/{id}"), &[("authorization", "Bearer tg-narrow")]).await;
        let told = answer.error().replace(&format!("`{name}`"), "");
        assert_eq!((answer.status(), told.starts_with("There is no route .")), (404, true), "{told}");
    }
    let encoded = gateway.get("/v1/models/fine%2Fgpt%204", &[("authorization", "Bearer tg-tokens")]).await;
    assert_eq!((encoded.status(), encoded.json()["id"].as_str()), (200, Some("fine/gpt 4")));
}

fn refused(answer: &Answer) {
    answer.error();
    assert_eq!((answer.status(), answer.json()["error"]["type"].as_str()), (429, Some("rate_limit_error")), "{}", answer.text());
    let seconds: u64 = answer.header("retry-after").parse().unwrap();
    let milliseconds: u64 = answer.header("retry-after-ms").parse().unwrap();
    assert_eq!(milliseconds.div_ceil(1000), seconds);
    assert!(seconds > 3600, "a limit that refills over a month: {seconds}");
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "0");
    assert!(!answer.header("x-ratelimit-limit-requests").is_empty() && !answer.header("x-ratelimit-reset-requests").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn request_limits_of_key_team_and_route() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    // Of the key.
    for left in ["1", "0"] {
        let answer = ask(&gateway, "few", "open").await;
        assert_eq!(
            (answer.status(), answer.header("x-ratelimit-limit-requests"), answer.header("x-ratelimit-remaining-requests")),
            (200, "2", left)
        );
        assert!(!answer.header("x-ratelimit-reset-requests").is_empty());
    }
    refused(&ask(&gateway, "few", "open").await);
    assert_eq!(ask(&gateway, "good", "open").await.status(), 200, "another key of the team");
    // Of the team, shared by its keys.
    for key in ["blue1", "blue2", "blue1"] {
        assert_eq!(ask(&gateway, key, "open").await.status(), 200);
    }
    refused(&ask(&gateway, "blue1", "open").await);
    refused(&ask(&gateway, "blue2", "other").await);
    // Of the route, shared by everybody.
    for key in ["good", "tokens"] {
        assert_eq!(ask(&gateway, key, "twice").await.status(), 200);
    }
    refused(&ask(&gateway, "good", "twice").await);
    refused(&ask(&gateway, "tokens", "twice").await);
    let line = gateway.output.line("\"route\":\"twice\",\"provider\":null").await;
    assert!(line.contains("\"status\":429") && line.contains("\"reason\":\"limited\""), "{line}");
    assert_eq!(ask(&gateway, "good", "other").await.status(), 200);
    assert_eq!(sim.count(), 9);
    for (scope, refusals) in [("key", 1.0), ("team", 2.0), ("route", 2.0)] {
        let series = format!("tidegate_limit_decisions_total{{decision=\"refused\",dimension=\"requests\",scope=\"{scope}\"}}");
        assert_eq!(gateway.metric(&series).await, refusals, "{scope}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_limit_answers_before_the_body_is_there() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    for _ in 0..2 {
        ask(&gateway, "few", "open").await;
    }
    for (more, length) in [("", "1000000"), ("expect: 100-continue\r\n", "1000"), ("", "1000")] {
        let mut conn = gateway.connect().await;
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer tg-few\r\n{more}content-length: {length}\r\n\r\n"
        );
        conn.send(head.as_bytes()).await.unwrap();
        assert_eq!(conn.head().await.unwrap().status, 429);
    }
    assert_eq!(sim.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_settled_and_a_failure_gives_them_back() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let bearer = [("authorization", "Bearer tg-tokens")];
    let mut body = chat("fine/m+status=500");
    body["max_tokens"] = 60.into();
    for _ in 0..5 {
        let answer = gateway.chat_as(&bearer, &body).await;
        assert_eq!(answer.status(), 502, "a request that fails upstream costs nothing: {}", answer.text());
    }
    body["model"] = "fine/m".into();
    let first = gateway.chat_as(&bearer, &body).await;
    assert_eq!((first.status(), first.header("x-ratelimit-limit-tokens")), (200, "100"));
    let used = first.json()["usage"]["total_tokens"].as_u64().unwrap();
    let limits = gateway.page("/limits").await.json();
    let row = limits["limits"].as_array().unwrap().iter().find(|r| r["name"] == "tokens").unwrap().clone();
    assert_eq!((row["used"].as_u64(), row["reserved"].as_u64()), (Some(used), Some(0)), "{row}");
    // A request whose reservation does not fit is refused, a smaller one is not.
    body["max_tokens"] = 95.into();
    let large = gateway.chat_as(&bearer, &body).await;
    assert_eq!(large.status(), 429, "{}", large.text());
    body["max_tokens"] = 10.into();
    assert_eq!(gateway.chat_as(&bearer, &body).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_until_it_ends_or_its_client_leaves() {
    let sim = Sim::start().await;
    let gateway = gateway(&sim).await;
    let bearer = [("authorization", "Bearer tg-alone")];
    let mut conn = gateway.connect().await;
    conn.send(&request("POST", "/v1/chat/completions", &bearer, Some(streamed("fine/m+stall").to_string().as_bytes()))).await.unwrap();
    sim.request_for("m+stall").await;
    assert_eq!(gateway.chat_as(&bearer, &chat("fine/m")).await.status(), 429);
    drop(conn);
    sim.ending("m+stall").await;
    // The simulator may notice a moment before the gateway has settled.
    crate::harness::until("the place's return", async || (gateway.chat_as(&bearer, &chat("fine/m")).await.status() == 200).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alias_answers_like_its_route_shares_its_limit_and_is_listed() {
    let sim = Sim::start().await;
    let route = "aliases: [gpt-4o, default], limits: [ { requests: 3, per: 30d } ]";
    let gateway = Gateway::start(&sim.config("", route)).await;
    for (name, left) in [("r", "2"), ("gpt-4o", "1"), ("default", "0")] {
        let answer = gateway.chat(&chat(name)).await;
        assert_eq!((answer.status(), answer.header("x-tidegate-provider")), (200, "sim"), "{name}");
        assert_eq!(answer.header("x-ratelimit-remaining-requests"), left, "{name}");
    }
    for name in ["r", "gpt-4o", "default"] {
        assert_eq!(gateway.chat(&chat(name)).await.status(), 429, "{name}");
    }
    assert_eq!(sim.count(), 3);
    let list = gateway.get("/v1/models", &[]).await.json();
    let mut names: Vec<_> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["default", "gpt-4o", "r"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_of_some_routes_says_which_it_is_and_warns_before_it_refuses() {
    let sim = Sim::start().await;
    let target = "targets: [ { provider: sim, model: m, price: { input: 1000000, output: 1000000 } } ]";
    let key =
        |id: &str, limits: &str| format!("{{ id: {id}, sha256: \"{}\", limits: {limits} }}", sha256_hex(format!("tg-{id}").as_bytes()));
    let config = format!(
        "providers: {{ sim: {} }}\nroutes:\n  open: {{ aliases: [also], {target} }}\n  other: {{ {target} }}\n\
         teams:\n  red:\n    limits: [ {{ requests: 2, per: day, routes: [also], warn: 50% }} ]\n    keys: [ {}, {} ]\n",
        sim.provider(),
        key("a", "[]"),
        key("spender", "[ { usd: 0.01, per: month, routes: [\"ot*\"] } ]"),
    );
    let gateway = Gateway::start(&config).await;
    let which = |answer: &Answer| {
        (answer.header("x-ratelimit-remaining-requests").to_owned(), answer.header("x-ratelimit-scope-requests").to_owned())
    };
    let scope = "team;routes=\"open\"".to_owned();
    for (route, left) in [("open", "1"), ("also", "0")] {
        let answer = ask(&gateway, "a", route).await;
        assert_eq!((answer.status(), which(&answer)), (200, (left.to_owned(), scope.clone())));
    }
    let refused = ask(&gateway, "a", "open").await;
    let told = refused.error();
    assert!(told.contains("This team has reached its limit on requests for `open` (2 per day). It is renewed at 2"), "{told}");
    assert_eq!((refused.status(), refused.header("x-ratelimit-exceeded")), (429, "team;dimension=requests;routes=\"open\""));
    assert!((1..=86_400).contains(&refused.header("retry-after").parse::<u64>().unwrap()));
    let other = ask(&gateway, "a", "other").await;
    assert_eq!((other.status(), which(&other)), (200, (String::new(), String::new())));
    // Money, of a key; spent by the first answer.
    assert_eq!(ask(&gateway, "spender", "other").await.status(), 200);
    let spent = ask(&gateway, "spender", "other").await;
    assert_eq!((spent.status(), spent.header("x-ratelimit-exceeded")), (402, "key;dimension=usd;routes=\"ot*\""));
    assert!(spent.error().contains("The budget of this key for `ot*` is spent: 0.01 USD per month."), "{}", spent.text());
    assert_eq!(ask(&gateway, "spender", "open").await.status(), 429, "of the team");
    gateway.output.line("the team `red` has used 50% of its limit on requests for `open` (2 per day)").await;
    assert_eq!(gateway.metric("tidegate_limit_warnings_total{dimension=\"requests\",name=\"red\",scope=\"team\"}").await, 1.0);
    let limits = gateway.page("/limits").await.json();
    let limits = limits["limits"].as_array().unwrap();
    let team = limits.iter().find(|limit| limit["scope"] == "team").unwrap();
    assert_eq!((&team["routes"], &team["per"]), (&serde_json::json!(["open"]), &serde_json::json!("day")));
    assert_eq!((team["used"].as_u64(), team["warn_percent"].as_u64(), team["warnings"].as_u64()), (Some(2), Some(50), Some(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abandoned_prompt_with_media_is_charged_for_what_it_may_cost() {
    let manual = Manual::start().await;
    let gateway = Gateway::start(&manual.config("", "limits: [ { tokens: 1000000, per: 30d } ]")).await;
    let mut body = chat("hand");
    let media = format!("data:image/png;base64,{}", "A".repeat(20_000));
    body["messages"][0]["content"] = serde_json::json!([{ "type": "text", "text": "hello", "data": media }]);
    let conn = gateway.open(&body).await;
    let exchange = manual.accept().await;
    drop(conn);
    exchange.hung_up().await;
    gateway.output.line("\"status\":499").await;
    let limits = gateway.page("/limits").await.json();
    let row = limits["limits"].as_array().unwrap().iter().find(|row| row["name"] == "hand").unwrap().clone();
    let (used, reserved) = (row["used"].as_u64().unwrap(), row["reserved"].as_u64().unwrap());
    assert!((500..2000).contains(&used) && reserved == 0, "{row}");
}
