//! Tokens of a real OpenID Connect provider (`oidc-provider` for Node, by panva) in place of keys, and the classic attacks on
//! them. Where the registry of its package cannot be reached, these tests say so and pass.

use crate::harness::dir::Dir;
use crate::harness::gateway::{Gateway, Output, Setup, free_address};
use crate::harness::http1::{Answer, Conn};
use crate::harness::sim::Sim;
use crate::harness::{chat, until};
use crate::sdk;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};
use tidegate::simulate::seen::sha256_hex;
use tokio::process::{Child, Command};

/// A version that is known to work with the script.
const PACKAGE: &str = "oidc-provider@9";

/// The provider, its keys, and where it is installed.
struct Idp {
    address: SocketAddr,
    keys: Dir,
    script: PathBuf,
    child: Option<Child>,
}

impl Idp {
    /// One that does not run yet; `None` where it cannot be had.
    async fn new() -> Option<Self> {
        let cache = sdk::cache("node-oidc");
        if !sdk::node_with(&cache, "oidc-provider", PACKAGE).await {
            return None;
        }
        // A module finds its dependencies beside itself.
        let script = cache.join(format!("oidc-{}.mjs", std::process::id()));
        std::fs::copy(sdk::scripts("oidc.mjs"), &script).unwrap();
        let address = free_address();
        Some(Self { address, keys: Dir::new(), script, child: None })
    }

    /// One that runs with the keys `rsa-1` and `ec-1`.
    async fn start() -> Option<Self> {
        let mut idp = Self::new().await?;
        idp.serve(&["rsa-1", "ec-1"]).await;
        Some(idp)
    }

    /// (Re)starts it with these keys, which are made where they do not exist. Those whose name begins with `rsa` are RSA keys.
    async fn serve(&mut self, names: &[&str]) {
        self.stop().await;
        for name in names {
            let path = self.key(name);
            let algorithm: &[&str] = match name.starts_with("rsa") {
                true => &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
                false => &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            };
            if !path.exists() {
                let made = Command::new("openssl").arg("genpkey").args(algorithm).arg("-out").arg(&path).output().await.unwrap();
                assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            }
        }
        let mut command = Command::new("node");
        command.arg(&self.script).arg(self.address.port().to_string()).args(names.iter().map(|name| self.key(name)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn().unwrap();
        Output::of(&mut child).line("ready").await;
        self.child = Some(child);
    }

    async fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().await.unwrap();
        }
    }

    fn key(&self, name: &str) -> PathBuf {
        self.keys.join(format!("{name}.pem"))
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it gives a client.
    async fn token(&self, client: &str, algorithm: &str, scope: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&client_id={client}&client_secret=secret&resource=urn:tidegate:{algorithm}&scope={scope}"
        );
        let mut conn = Conn::connect(self.address).await;
        let head = "POST /token HTTP/1.1\r\nhost: idp\r\ncontent-type: application/x-www-form-urlencoded\r\n";
        conn.send(format!("{head}content-length: {}\r\n\r\n{form}", form.len()).as_bytes()).await.unwrap();
        let answer = conn.answer().await.unwrap();
        answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{}", answer.text())).to_owned()
    }

    /// The head and claims that it would give `search.bot`.
    fn claims(&self) -> Value {
        json!({ "iss": self.issuer(), "aud": "tidegate", "sub": "search.bot", "team": "search", "exp": now() + 600, "iat": now(), "scope": "small" })
    }

    /// A token that it did not make, with one of its private keys.
    fn sign(&self, key: &str, head: &Value, claims: &Value) -> String {
        let text = unsigned(head, claims);
        let pem = PrivatePkcs8KeyDer::from_pem_slice(&std::fs::read(self.key(key)).unwrap()).unwrap();
        let random = SystemRandom::new();
        let signature = if key.starts_with("rsa") {
            let pair = RsaKeyPair::from_pkcs8(pem.secret_pkcs8_der()).unwrap();
            let mut signature = vec![0; pair.public().modulus_len()];
            pair.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).unwrap();
            signature
        } else {
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pem.secret_pkcs8_der(), &random).unwrap();
            pair.sign(&random, text.as_bytes()).unwrap().as_ref().to_vec()
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A public key as PEM, as anyone can have it.
    async fn public(&self, key: &str) -> Vec<u8> {
        let command = ["pkey", "-pubout", "-in"];
        let made = Command::new("openssl").args(command).arg(self.key(key)).output().await.unwrap();
        assert!(made.status.success());
        made.stdout
    }
}

impl Drop for Idp {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.script);
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn unsigned(head: &Value, claims: &Value) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// Teams `search` (with the key `tg-key`) and `ads`, routes `small` and `large`, and this entry of `auth.jwt`.
fn config(sim: &Sim, issuer: &str, more: &str) -> String {
    let target = "targets: [ { provider: sim, model: m } ]";
    format!(
        "providers: {{ sim: {} }}\nroutes:\n  small: {{ {target} }}\n  large: {{ {target} }}\n\
         auth: {{ jwt: [ {{ issuer: \"{issuer}\", audience: tidegate{more} }} ] }}\nteams:\n  search:\n    \
         users: [ {{ id: search.mallory, disabled: true }}, {{ id: search.capped, limits: [ {{ requests: 1, per: day }} ] }} ]\n    keys: [ {{ id: key, sha256: \"{}\" }} ]\n  \
         ads: {{ limits: [ {{ requests: 2, per: day }} ] }}\n",
        sim.provider(),
        sha256_hex(b"tg-key"),
    )
}

async fn ask(gateway: &Gateway, token: &str, route: &str) -> Answer {
    gateway.chat_as(&[("authorization", &format!("Bearer {token}"))], &chat(route)).await
}

async fn messages(gateway: &Gateway, token: &str) -> Answer {
    let body = json!({ "model": "small", "max_tokens": 9, "messages": [{ "role": "user", "content": "hello" }] });
    gateway.post("/v1/messages", &[("x-api-key", token), ("anthropic-version", "2023-06-01")], &body).await
}

/// The parts of a token that must be nowhere.
fn is_in(token: &str, text: &str) -> bool {
    token.split('.').any(|part| !part.is_empty() && text.contains(part))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_their_teams_on_every_front() {
    let Some(mut idp) = Idp::start().await else { return };
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, &idp.issuer(), ", routes_claim: scope")).await;
    let mut tokens = Vec::new();
    for algorithm in ["RS256", "ES256"] {
        let token = idp.token("search.bot", algorithm, "small").await;
        let bearer = format!("Bearer {token}");
        assert_eq!(ask(&gateway, &token, "small").await.status(), 200, "{algorithm}");
        assert_eq!(messages(&gateway, &token).await.status(), 200, "{algorithm}");
        let body = json!({ "model": "small", "input": "hello" });
        assert_eq!(gateway.post("/v1/responses", &[("authorization", &bearer)], &body).await.status(), 200, "{algorithm}");
        // The scope narrows the team's routes.
        let refused = ask(&gateway, &token, "large").await;
        assert_eq!((refused.status(), refused.error().contains("may not use")), (403, true));
        let list = gateway.get("/v1/models", &[("authorization", &bearer)]).await.json();
        assert_eq!((list["data"].as_array().unwrap().len(), list["data"][0]["id"].as_str()), (1, Some("small")));
        tokens.push(token);
    }
    let line = gateway.output.line("\"key\":\"search.bot\"").await;
    assert!(line.contains("\"team\":\"search\"") && line.contains("\"auth\":\"token\""), "{line}");
    assert_eq!(ask(&gateway, "tg-key", "large").await.status(), 200, "keys are keys");
    gateway.output.line("\"key\":\"key\",\"auth\":\"key\"").await;
    // The team's limit is that of all its tokens.
    let ads = idp.token("ads.bot", "ES256", "small large").await;
    let statuses = [ask(&gateway, &ads, "small").await.status(), ask(&gateway, &ads, "large").await.status()];
    let third = ask(&gateway, &idp.token("ads.bot", "RS256", "small").await, "small").await;
    assert_eq!((statuses, third.status()), ([200, 200], 429));
    // Who is named has limits of their own.
    let capped = [idp.token("search.capped", "RS256", "small").await, idp.token("search.capped", "ES256", "small").await];
    assert_eq!([ask(&gateway, &capped[0], "small").await.status(), ask(&gateway, &capped[1], "small").await.status()], [200, 429]);
    let limits = gateway.page("/limits").await.json();
    let own = limits["limits"].as_array().unwrap().iter().find(|limit| limit["scope"] == "key").unwrap();
    assert_eq!((&own["name"], &own["used"]), (&json!("search/search.capped"), &json!(1)));
    let nobody = idp.token("nobody.bot", "RS256", "small").await;
    let refused = ask(&gateway, &nobody, "small").await;
    assert_eq!((refused.status(), refused.error().as_str()), (401, "The token's claim `team` must name exactly one team of this gateway."));
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    let mallory = idp.token("search.mallory", "RS256", "small").await;
    assert_eq!(ask(&gateway, &mallory, "small").await.status(), 401);
    assert_eq!(gateway.metric("tidegate_auth_failures_total{reason=\"token_team\"}").await, 1.0);
    assert_eq!(gateway.metric("tidegate_auth_failures_total{reason=\"disabled\"}").await, 1.0);
    let status = gateway.page("/status").await.json();
    assert_eq!((&status["jwks"][0]["issuer"], &status["jwks"][0]["keys"]), (&json!(idp.issuer()), &json!(2)));
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(&format!("tidegate_jwks_age_seconds{{issuer=\"{}\"}}", idp.issuer())), "{metrics}");
    assert!(!metrics.contains("search.bot") && metrics.contains("search.capped"), "an id is no label, but that of a configured limit is");
    // What was fetched stays while the provider is down, for tokens that are new, too.
    let fresh = idp.token("search.bot", "ES256", "large").await;
    idp.stop().await;
    assert_eq!(ask(&gateway, &fresh, "large").await.status(), 200);
    assert!(sim.seen().iter().all(|seen| !format!("{seen:?}").contains(&fresh)), "a token never leaves");
    tokens.extend([ads, nobody, mallory, fresh]);
    let text = gateway.output.text() + &status.to_string() + &metrics + &gateway.page("/limits").await.text();
    for token in tokens {
        let [head, claims, signature] = token.split('.').collect::<Vec<_>>()[..] else { panic!("{token}") };
        assert!(![head, claims, signature].iter().any(|part| text.contains(part)), "part of a token is shown");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_classic_attacks_are_refused_on_every_front() {
    let Some(idp) = Idp::start().await else { return };
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, &idp.issuer(), "")).await;
    let real = idp.token("search.bot", "RS256", "small").await;
    assert_eq!(ask(&gateway, &real, "small").await.status(), 200);
    let rs = json!({ "alg": "RS256", "kid": "rsa-1" });
    assert_eq!(ask(&gateway, &idp.sign("rsa-1", &rs, &idp.claims()), "small").await.status(), 200, "the forger's tools work");
    let with = |name: &str, value: Value| {
        let mut claims = idp.claims();
        claims[name] = value;
        claims
    };
    let [head, claims, signature] = real.split('.').collect::<Vec<_>>()[..] else { panic!("{real}") };
    let hmac = |secret: &[u8]| {
        let text = unsigned(&json!({ "alg": "HS256", "typ": "JWT", "kid": "rsa-1" }), &idp.claims());
        let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), text.as_bytes());
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
    };
    let jwks: Value = {
        let mut conn = Conn::connect(idp.address).await;
        conn.get("/jwks", &[]).await.json()
    };
    let public = idp.public("rsa-1").await;
    // A key of the attacker's own, which the provider does not have.
    let forger = Idp { address: idp.address, keys: Dir::new(), script: PathBuf::new(), child: None };
    let arguments = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
    let made = Command::new("openssl").args(arguments).arg(forger.key("ec-1")).output().await.unwrap();
    assert!(made.status.success());
    let own = |more: Value| {
        let mut head = json!({ "alg": "ES256", "kid": "ec-1" });
        head.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        forger.sign("ec-1", &head, &idp.claims())
    };
    let attacks = [
        ("alg none", format!("{}.", unsigned(&json!({ "alg": "none" }), &idp.claims())), "token_algorithm"),
        (
            "alg nOnE with the signature",
            format!("{}.{signature}", unsigned(&json!({ "alg": "nOnE", "kid": "rsa-1" }), &idp.claims())),
            "token_algorithm",
        ),
        ("HS256 with the PEM of the public key", hmac(&public), "token_algorithm"),
        ("HS256 with the modulus", hmac(&URL_SAFE_NO_PAD.decode(jwks["keys"][0]["n"].as_str().unwrap()).unwrap()), "token_algorithm"),
        ("an RSA key as one of ECDSA", idp.sign("ec-1", &json!({ "alg": "ES256", "kid": "rsa-1" }), &idp.claims()), "token_algorithm"),
        ("another algorithm of the key", idp.sign("rsa-1", &json!({ "alg": "PS256", "kid": "rsa-1" }), &idp.claims()), "token_algorithm"),
        ("another key", own(json!({})), "token_signature"),
        ("jwk", own(json!({ "jwk": { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" } })), "token_signature"),
        ("jku", own(json!({ "jku": format!("http://{}/evil", idp.address) })), "token_signature"),
        ("x5u", own(json!({ "x5u": format!("http://{}/evil", idp.address), "x5c": ["MIIB"] })), "token_signature"),
        ("crit", own(json!({ "crit": ["exp"] })), "token_malformed"),
        ("kid as a path", own(json!({ "kid": "../../../../../../dev/null" })), "token_key"),
        ("kid as a query", own(json!({ "kid": "x' UNION SELECT 'AAAA" })), "token_key"),
        ("kid as a URL", own(json!({ "kid": "http://127.0.0.1:1/keys" })), "token_key"),
        ("no kid", own(json!({ "kid": null })), "token_signature"),
        ("expired", idp.sign("rsa-1", &rs, &with("exp", json!(now() - 61))), "token_expired"),
        ("without an end", idp.sign("rsa-1", &rs, &with("exp", Value::Null)), "token_claim"),
        ("not valid yet", idp.sign("rsa-1", &rs, &with("nbf", json!(now() + 120))), "token_not_yet_valid"),
        ("for another audience", idp.sign("rsa-1", &rs, &with("aud", json!("https://api.example.com"))), "token_audience"),
        ("of another issuer", idp.sign("rsa-1", &rs, &with("iss", json!("https://evil.example.com"))), "token_issuer"),
        ("of the issuer but for a slash", idp.sign("rsa-1", &rs, &with("iss", json!(idp.issuer() + "/"))), "token_issuer"),
        ("of an unknown team", idp.sign("rsa-1", &rs, &with("team", json!("nobody"))), "token_team"),
        ("of the team of those without a key", idp.sign("rsa-1", &rs, &with("team", json!("anonymous"))), "token_team"),
        (
            "other claims",
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(with("team", json!("ads")).to_string())),
            "token_signature",
        ),
        ("another head", format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode(rs.to_string())), "token_signature"),
        ("no signature", format!("{head}.{claims}."), "token_signature"),
        ("too long", idp.sign("rsa-1", &rs, &with("more", json!("x".repeat(9000)))), "token_malformed"),
        ("no token", "tg-nobody".to_owned(), "unknown"),
    ];
    let served = sim.count();
    for (what, token, reason) in &attacks {
        let series = format!("tidegate_auth_failures_total{{reason=\"{reason}\"}}");
        let before = gateway.metric(&series).await;
        let answer = ask(&gateway, token, "small").await;
        assert_eq!((answer.status(), answer.header("www-authenticate")), (401, "Bearer"), "{what}: {}", answer.text());
        assert!(!answer.error().is_empty() && !is_in(token, &answer.text()) || *reason == "unknown", "{what}: {}", answer.text());
        let answer = messages(&gateway, token).await;
        assert_eq!((answer.status(), answer.json()["error"]["type"].as_str()), (401, Some("authentication_error")), "{what}");
        assert_eq!(gateway.metric(&series).await, before + 2.0, "{what}: {reason}");
    }
    assert_eq!(sim.count(), served, "no provider was asked");
    // None of it has displaced what is good.
    assert_eq!(ask(&gateway, &real, "small").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_is_fetched_once_a_minute_and_a_withdrawn_one_is_out() {
    let Some(mut idp) = Idp::start().await else { return };
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, &idp.issuer(), "")).await;
    let first = idp.token("search.bot", "RS256", "small").await;
    assert_eq!(ask(&gateway, &first, "small").await.status(), 200);
    idp.serve(&["rsa-2", "ec-1"]).await;
    assert_eq!(ask(&gateway, &first, "small").await.status(), 200, "nobody has looked yet");
    let second = idp.token("search.bot", "RS256", "small").await;
    assert_eq!(ask(&gateway, &second, "small").await.status(), 200, "the request waits for the fetch");
    let refused = ask(&gateway, &first, "small").await;
    assert_eq!(refused.status(), 401, "its key is gone, and with it what was known of the token");
    assert!(refused.error().contains("`kid`"), "{}", refused.text());
    idp.serve(&["rsa-3", "ec-1"]).await;
    let third = idp.token("search.bot", "RS256", "small").await;
    let refused = ask(&gateway, &third, "small").await;
    assert!(refused.status() == 401 && refused.error().ends_with("try again in 60 seconds."), "{}", refused.text());
    assert_eq!(ask(&gateway, &second, "small").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_down_at_the_start_is_a_503_until_it_is_there() {
    let Some(mut idp) = Idp::start().await else { return };
    let token = idp.token("search.bot", "ES256", "small").await;
    idp.stop().await;
    let sim = Sim::start().await;
    let gateway = Gateway::start(&config(&sim, &idp.issuer(), "")).await;
    gateway.output.line("cannot fetch the keys of issuer").await;
    let answer = ask(&gateway, &token, "small").await;
    assert_eq!((answer.status(), answer.json()["error"]["type"].as_str()), (503, Some("overloaded_error")), "{}", answer.text());
    assert!(answer.error().contains("cannot be fetched") && answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    let answer = messages(&gateway, &token).await;
    assert_eq!((answer.status(), answer.json()["error"]["type"].as_str()), (529, Some("overloaded_error")), "{}", answer.text());
    assert_eq!(ask(&gateway, "tg-key", "small").await.status(), 200, "keys need no issuer");
    let status = gateway.page("/status").await.json();
    assert_eq!((&status["jwks"][0]["failing"], &status["jwks"][0]["keys"]), (&json!(true), &json!(0)));
    assert!(gateway.metric(&format!("tidegate_jwks_fetch_failures_total{{issuer=\"{}\"}}", idp.issuer())).await >= 1.0);
    idp.serve(&["ec-1"]).await;
    until("the keys", async || (ask(&gateway, &token, "small").await.status() == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_issuer_is_out_at_once_and_a_file_of_keys_is_watched() {
    let Some(idp) = Idp::start().await else { return };
    let sim = Sim::start().await;
    let setup = Setup::new(&config(&sim, &idp.issuer(), ""));
    let gateway = setup.start().await;
    let token = idp.token("search.bot", "ES256", "small").await;
    assert_eq!(ask(&gateway, &token, "small").await.status(), 200);
    gateway.reload(&config(&sim, "https://other.example.com", ", jwks_url: \"http://127.0.0.1:1/\"")).await;
    gateway.output.line("configuration 2 is in force").await;
    assert_eq!(ask(&gateway, &token, "small").await.status(), 401);
    assert_eq!(ask(&gateway, "tg-key", "small").await.status(), 200);
    // The issuer again, with its keys in a file: first without that of the token.
    let jwks = Conn::connect(idp.address).await.get("/jwks", &[]).await.json();
    let only = |kty: &str| {
        json!({ "keys": jwks["keys"].as_array().unwrap().iter().filter(|key| key["kty"] == kty).collect::<Vec<_>>() }).to_string()
    };
    let file = gateway.dir.write("keys.json", &only("RSA"));
    gateway.reload(&config(&sim, &idp.issuer(), &format!(", jwks_file: {}", file.display()))).await;
    gateway.output.line("configuration 3 is in force").await;
    let refused = ask(&gateway, &token, "small").await;
    assert!(refused.status() == 401 && refused.error().contains("`kid`"), "{}", refused.text());
    // Nobody sends a signal.
    std::fs::write(&file, only("EC")).unwrap();
    until("the file's keys", async || (ask(&gateway, &token, "small").await.status() == 200).then_some(())).await;
    assert!(gateway.page("/status").await.json()["jwks"].is_null(), "nothing is fetched");
    std::fs::write(&file, "{}").unwrap();
    gateway.output.line("is no JSON Web Key Set").await;
    assert_eq!(ask(&gateway, &token, "small").await.status(), 200, "a bad file changes nothing");
}
