//! Tests of [`super`]: what a token must be, and the classic attacks on it.

use super::*;
use crate::auth::{Credential, authenticate, may_use};
use crate::config;
use crate::config::snapshot::Snapshot;
use crate::dir::Dir;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://idp.example.com";

/// A configuration, its tokens, and the keys of its issuer: `ec` (ES256) and `ed` (EdDSA).
struct World {
    snapshot: Snapshot,
    tokens: Tokens,
    ec: EcdsaKeyPair,
    ed: Ed25519KeyPair,
}

impl World {
    fn new(more: &str) -> Self {
        Self::with(more, "")
    }

    /// With more keys of the issuer, and others of the team.
    fn with(more: &str, team: &str) -> Self {
        let random = SystemRandom::new();
        let ec = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, ec.as_ref(), &random).unwrap();
        let ed = Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
        let (point, b64) = (ec.public_key().as_ref(), |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes));
        let keys = json!({ "keys": [
            { "kty": "EC", "crv": "P-256", "kid": "ec", "use": "sig", "x": b64(&point[1..33]), "y": b64(&point[33..]) },
            { "kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(ed.public_key().as_ref()) },
        ] });
        let dir = Dir::new();
        let file = dir.write("jwks", &keys.to_string());
        let text = format!(
            "providers: {{ p: {{ kind: openai, api_key: k }} }}
routes:
  a: {{ aliases: [other], targets: [ {{ provider: p, model: m }} ] }}
  b: {{ targets: [ {{ provider: p, model: m }} ] }}
  \"c/*\": {{ targets: [ {{ provider: p, model: m }} ] }}
auth: {{ jwt: [ {{ issuer: \"{ISSUER}\", audience: [tidegate, other], jwks_file: \"{}\", algorithms: [ES256, EdDSA]{more} }} ] }}
teams:
  search: {{ {team} keys: [ {{ id: key, sha256: \"{}\" }}, {{ id: dotted, sha256: \"{}\" }} ] }}
  ads: {{ routes: [b] }}
",
            file.display(),
            crate::auth::key::digest("tg-key"),
            crate::auth::key::digest("a.b.c"),
        );
        let loaded = config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"));
        assert_eq!(loaded.files, [file], "it is watched");
        let snapshot = loaded.snapshot;
        let tokens = tokens(&snapshot);
        Self { snapshot, tokens, ec, ed }
    }

    fn sign(&self, head: &Value, claims: &Value) -> String {
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = match head["kid"].as_str() {
            Some("ed") => self.ed.sign(text.as_bytes()).as_ref().to_vec(),
            _ => self.ec.sign(&SystemRandom::new(), text.as_bytes()).unwrap().as_ref().to_vec(),
        };
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": "ES256", "kid": "ec" }), claims)
    }

    fn ask(&self, token: &str, now: i64) -> Result<Principal, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        authenticate(&self.snapshot.tenants, Some(&self.tokens), &headers, now)
    }

    #[track_caller]
    fn refused(&self, what: &str, token: &str) -> (AuthFailure, String) {
        let refusal = self.ask(token, NOW).err().unwrap_or_else(|| panic!("{what} is accepted"));
        let error = refusal.error(&self.snapshot.tenants.mode);
        assert_eq!((error.status, error.kind.name()), (401, "authentication_error"), "{what}");
        (refusal.failure, error.message.into_owned())
    }

    fn may(&self, token: &str) -> Vec<bool> {
        let principal = self.ask(token, NOW).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        (0..3).map(|route| may_use(&principal, &self.snapshot.tenants, route)).collect()
    }
}

fn tokens(snapshot: &Snapshot) -> Tokens {
    let names = snapshot.routes.iter().flat_map(|route| route.aliases.iter().chain([&route.name]).map(|name| (name.clone(), route.index)));
    Tokens::new(&snapshot.tenants, names, None).unwrap()
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": "tidegate", "sub": "alice@example.com", "team": "search", "exp": NOW + 60, "iat": NOW, "nbf": NOW })
}

/// The claims with one changed, or without it.
fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

#[test]
fn a_token_is_its_teams_under_its_own_id_and_keys_are_keys() {
    let world = World::new("");
    for head in [json!({ "alg": "ES256", "kid": "ec" }), json!({ "alg": "ES256", "typ": "at+jwt" }), json!({ "alg": "EdDSA", "kid": "ed" })]
    {
        let who = world.ask(&world.sign(&head, &claims()), NOW).unwrap();
        assert_eq!((who.team(), who.key(), who.id(&world.snapshot.tenants)), (0, None, "alice@example.com"), "{head}");
        assert_eq!(who.credential(&world.snapshot.tenants), Some(Credential::Token));
    }
    for (key, id) in [("tg-key", "key"), ("a.b.c", "dotted")] {
        let who = world.ask(key, NOW).unwrap();
        assert_eq!((who.id(&world.snapshot.tenants), who.credential(&world.snapshot.tenants)), (id, Some(Credential::Key)));
    }
    assert_eq!(world.ask("tg-nobody", NOW).unwrap_err().failure, AuthFailure::Unknown);
    for aud in [json!("other"), json!(["x", "tidegate"])] {
        assert!(world.ask(&world.token(&but("aud", aud)), NOW).is_ok());
    }
    let mut headers = HeaderMap::new();
    headers.insert("x-api-key", HeaderValue::from_str(&world.token(&claims())).unwrap());
    assert!(authenticate(&world.snapshot.tenants, Some(&world.tokens), &headers, NOW).is_ok(), "as Anthropic's clients send it");
    // Without keys a token is all that is accepted.
    let mut world = world;
    let AuthMode::Credential { keys, .. } = &mut world.snapshot.tenants.mode else { panic!("there is a mode") };
    *keys = false;
    assert_eq!(world.ask("tg-key", NOW).unwrap_err().failure, AuthFailure::Unknown);
    assert!(world.ask(&world.token(&claims()), NOW).is_ok());
}

#[test]
fn every_claim_is_checked_and_what_is_wrong_is_named() {
    use AuthFailure as F;
    let world = World::new("");
    for (name, value, failure, said) in [
        ("iss", json!("https://evil.example.com"), F::TokenIssuer, "`iss`"),
        ("iss", json!("https://idp.example.com/"), F::TokenIssuer, "`iss`"),
        ("iss", Value::Null, F::TokenClaim, "`iss`"),
        ("aud", json!("tide"), F::TokenAudience, "`aud`"),
        ("aud", json!([]), F::TokenAudience, "`aud`"),
        ("aud", json!({"tidegate": 1}), F::TokenClaim, "`aud`"),
        ("aud", Value::Null, F::TokenClaim, "`aud`"),
        ("exp", json!(NOW - 60), F::TokenExpired, "`exp`"),
        ("exp", json!(0), F::TokenExpired, "`exp`"),
        ("exp", json!("1900000000"), F::TokenClaim, "`exp`"),
        ("exp", Value::Null, F::TokenClaim, "`exp`"),
        ("nbf", json!(NOW + 61), F::TokenEarly, "`nbf`"),
        ("iat", json!(NOW + 61), F::TokenEarly, "`iat`"),
        ("nbf", json!("soon"), F::TokenClaim, "`nbf`"),
        ("team", json!("nobody"), F::TokenTeam, "`team`"),
        ("team", json!("anonymous"), F::TokenTeam, "`team`"),
        ("team", json!(["search", "ads"]), F::TokenTeam, "`team`"),
        ("team", json!(7), F::TokenClaim, "`team`"),
        ("team", Value::Null, F::TokenClaim, "`team`"),
        ("sub", json!(""), F::TokenClaim, "`sub`"),
        ("sub", json!("a\nb"), F::TokenClaim, "`sub`"),
        ("sub", json!("x".repeat(256)), F::TokenClaim, "`sub`"),
        ("sub", Value::Null, F::TokenClaim, "`sub`"),
    ] {
        let token = world.token(&but(name, value.clone()));
        let (found, message) = world.refused(&format!("{name} {value}"), &token);
        assert!(found == failure && message.contains(said), "{name} {value}: {found:?} {message}");
        assert!(!message.contains("alice") && !message.contains("nobody"), "{message}");
    }
    // The clock skew, one minute, and no more.
    for (name, value) in
        [("exp", json!(NOW - 59)), ("nbf", json!(NOW + 60)), ("iat", json!(NOW + 60)), ("team", json!(["x", "search", "search"]))]
    {
        assert!(world.ask(&world.token(&but(name, value)), NOW).is_ok(), "{name}");
    }
    for (name, value) in [("nbf", Value::Null), ("iat", Value::Null), ("exp", json!(1e300))] {
        assert!(world.ask(&world.token(&but(name, value)), NOW).is_ok(), "{name}");
    }
}

#[test]
fn the_classic_attacks_are_refused() {
    use AuthFailure as F;
    let world = World::new("");
    let (good, b64) = (world.token(&claims()), |text: &str| URL_SAFE_NO_PAD.encode(text));
    let parts: Vec<_> = good.split('.').collect();
    let unsigned = |alg: &str| format!("{}.{}.", b64(&format!(r#"{{"alg":"{alg}"}}"#)), parts[1]);
    for alg in ["none", "None", "NONE", "nOnE", "", "RS0", "ES256 "] {
        assert_eq!(world.refused(alg, &unsigned(alg)).0, F::TokenAlgorithm, "{alg}");
    }
    // The public key as the secret of an HMAC.
    let head = b64(r#"{"alg":"HS256","kid":"ec"}"#);
    let hmac = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, world.ec.public_key().as_ref());
    let signed = format!("{head}.{}", parts[1]);
    let tag = ring::hmac::sign(&hmac, signed.as_bytes());
    assert_eq!(world.refused("HS256", &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))).0, F::TokenAlgorithm);
    // A key with an algorithm of another type, and one that is not allowed.
    for head in [
        json!({ "alg": "EdDSA", "kid": "ec" }),
        json!({ "alg": "ES256", "kid": "ed" }),
        json!({ "alg": "RS256", "kid": "ec" }),
        json!({ "alg": "ES384", "kid": "ec" }),
    ] {
        assert_eq!(world.refused("confusion", &world.sign(&head, &claims())).0, F::TokenAlgorithm, "{head}");
    }
    // A key that the token brings along, and ids that would be paths or queries if they were used for more than a comparison.
    let own = World::new("");
    let point = own.ec.public_key();
    let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(&point.as_ref()[1..33]), "y": URL_SAFE_NO_PAD.encode(&point.as_ref()[33..]) });
    for (head, failure) in [
        (json!({ "alg": "ES256", "kid": "ec", "jwk": jwk }), F::TokenSignature),
        (json!({ "alg": "ES256", "jwk": jwk }), F::TokenSignature),
        (
            json!({ "alg": "ES256", "kid": "ec", "jku": "https://evil.example.com/keys", "x5u": "https://evil.example.com/c" }),
            F::TokenSignature,
        ),
        (json!({ "alg": "ES256", "kid": "../../../../dev/null" }), F::TokenKey),
        (json!({ "alg": "ES256", "kid": "ec' UNION SELECT 'key'; --" }), F::TokenKey),
        (json!({ "alg": "ES256", "kid": "" }), F::TokenKey),
        (json!({ "alg": "ES256", "kid": "ec", "crit": ["exp"], "exp": 1 }), F::TokenMalformed),
        (json!({ "alg": "ES256", "kid": "ec", "crit": ["b64"], "b64": false }), F::TokenMalformed),
        (json!({ "alg": "ES256", "kid": "ec", "typ": "logout+jwt" }), F::TokenMalformed),
    ] {
        assert_eq!(world.refused("injection", &own.sign(&head, &claims())).0, failure, "{head}");
    }
    // Claims, head or signature of another token, and none.
    let other = b64(&but("team", json!("ads")).to_string());
    for token in [
        format!("{}.{other}.{}", parts[0], parts[2]),
        format!("{}.{}.{}", b64(r#"{"alg":"ES256","kid":"ec","typ":"JWT"}"#), parts[1], parts[2]),
        format!(
            "{}.{}.{}",
            parts[0],
            parts[1],
            world.token(&claims()).replace('.', " ").split(' ').next_back().unwrap().chars().rev().collect::<String>()
        ),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64])),
    ] {
        let failure = world.refused("tampered", &token).0;
        assert!(matches!(failure, F::TokenSignature | F::TokenMalformed), "{failure:?} {token}");
    }
    for token in [
        format!("{}.{}.%%%", parts[0], parts[1]),
        format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        format!("{}..{}", parts[0], parts[2]),
    ] {
        assert_eq!(world.refused("not base64url", &token).0, F::TokenMalformed, "{token}");
    }
    let long = world.token(&but("more", json!("x".repeat(token::MAX_TOKEN))));
    assert_eq!(world.refused("long", &long).0, F::TokenMalformed);
    assert!(world.ask(&good, NOW).is_ok());
}

#[test]
fn a_verdict_is_stored_until_the_token_expires() {
    let world = World::new("");
    let token = world.token(&claims());
    let digest: Digest = Sha256::digest(&token).into();
    let stored = |now| world.tokens.verdicts.get(&digest, now, |_| 0).is_some();
    assert!(!stored(NOW));
    let first = world.ask(&token, NOW).unwrap();
    assert!(stored(NOW + 119) && !stored(NOW + 120), "`exp` and the clock skew");
    assert_eq!(world.ask(&token, NOW + 119).unwrap(), first);
    assert_eq!(world.ask(&token, NOW + 120).unwrap_err().failure, AuthFailure::TokenExpired);
    let bad = world.token(&but("team", json!("nobody")));
    world.refused("an unknown team", &bad);
    assert!(world.tokens.verdicts.get(&Sha256::digest(&bad).into(), NOW, |_| 0).is_none(), "only valid tokens are stored");
    // The next configuration knows nothing of it.
    assert!(tokens(&world.snapshot).verdicts.get(&digest, NOW, |_| 0).is_none());
}

#[test]
fn other_claims_can_have_team_id_and_routes() {
    let world = World::new(", team_claim: realm.team, key_claim: \"https://x.example/id\", routes_claim: scope, clock_skew: 0s");
    let with = |scope: Value| {
        let mut claims = but("scope", scope);
        claims["realm"] = json!({ "team": "search" });
        claims["https://x.example/id"] = json!("bob");
        world.token(&claims)
    };
    let token = with(json!("openid a"));
    assert_eq!(world.ask(&token, NOW).unwrap().id(&world.snapshot.tenants), "bob");
    for (scope, may) in [
        (json!("openid a"), [true, false, false]),
        (json!(["other", "c/*"]), [true, false, true]),
        (json!("*"), [true, true, true]),
        (json!("c*"), [false, false, true]),
        (json!([]), [false, false, false]),
    ] {
        assert_eq!(world.may(&with(scope.clone())), may, "{scope}");
    }
    assert_eq!(world.refused("no scope", &with(Value::Null)).1, "The token's claim `scope` is missing or not of its type.");
    // What the team may not use, its token may not either.
    let mut ads = but("scope", json!("a b"));
    (ads["realm"], ads["https://x.example/id"]) = (json!({ "team": "ads" }), json!("bob"));
    assert_eq!(world.may(&world.token(&ads)), [false, true, false]);
    assert_eq!(world.ask(&token, NOW + 60).unwrap_err().failure, AuthFailure::TokenExpired, "without a clock skew");
}

#[test]
fn a_team_may_name_its_users() {
    let world = World::with(
        "",
        "users: [ { id: alice@example.com, routes: [b], limits: [ { requests: 5, per: 1m } ] }, { id: mallory, disabled: true } ],",
    );
    let who = world.ask(&world.token(&claims()), NOW).unwrap();
    let user = &world.snapshot.tenants.keys[who.key().unwrap()];
    assert_eq!((&*user.id, user.limits.len(), user.digest), ("alice@example.com", 1, None));
    assert_eq!(world.may(&world.token(&claims())), [false, true, false]);
    assert_eq!(world.refused("a disabled user", &world.token(&but("sub", json!("mallory")))).0, AuthFailure::Disabled);
    // A key's id is no user's, and a user of one team is none of another.
    let key = world.ask(&world.token(&but("sub", json!("key"))), NOW).unwrap();
    assert_eq!((key.key(), key.id(&world.snapshot.tenants)), (None, "key"));
    let ads = world.ask(&world.token(&but("team", json!("ads"))), NOW).unwrap();
    assert_eq!(ads.key(), None);
}

#[test]
fn the_same_person_may_be_a_user_of_several_teams() {
    let world = World::with(
        "",
        "users: [ { id: alice@example.com, limits: [ { requests: 5, per: 1m } ] }, { id: \"Bob B\", disabled: true }, { id: key } ] }
  more: { users: [ { id: alice@example.com, disabled: true }, { id: \"Bob B\", limits: [ { requests: 7, per: 1m } ] } ] }
  rest: {",
    );
    let key = |sub: &str, team: &str| {
        let mut claims = but("sub", json!(sub));
        claims["team"] = json!(team);
        world.ask(&world.token(&claims), NOW).map(|who| who.key().unwrap()).map_err(|refusal| refusal.failure)
    };
    let [alice, bob] = [key("alice@example.com", "search"), key("Bob B", "more")].map(Result::unwrap);
    assert_eq!([key("alice@example.com", "more"), key("Bob B", "search")], [Err(AuthFailure::Disabled); 2]);
    // Each has limits of their own, which are told apart by their names.
    let [keys, ..] = world.snapshot.limits();
    assert_eq!((&*keys[alice].0, keys[alice].1.len(), &*keys[bob].0, keys[bob].1.len()), ("search/alice@example.com", 1, "more/Bob B", 1));
    let names: std::collections::HashSet<_> = keys.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names.len(), keys.len());
}

#[test]
fn an_issuer_may_be_one_of_some_teams_only() {
    let world = World::new(", teams: [ads]");
    let (failure, message) = world.refused("a team of another issuer", &world.token(&claims()));
    assert_eq!(failure, AuthFailure::TokenTeam);
    assert_eq!(message, world.refused("an unknown team", &world.token(&but("team", json!("nobody")))).1, "it is as if there were none");
    for team in [json!("ads"), json!(["search", "ads"])] {
        assert_eq!(world.ask(&world.token(&but("team", team)), NOW).unwrap().team(), 1);
    }
}

#[test]
fn a_token_without_a_kid_may_be_signed_with_a_key_that_is_newer_than_the_set() {
    let (now, later) = (World::new(""), World::new(""));
    let set = |world: &World| match &world.tokens.issuers[0].issuer.keys {
        IssuerKeys::Fixed(keys) => keys.clone(),
        IssuerKeys::Fetched(..) => panic!("they are in a file"),
    };
    let Trusted { issuer, .. } = &now.tokens.issuers[0];
    let url = source::key_url("https://idp.example.com/keys").unwrap();
    let keys = Arc::new(KeySource::new(ISSUER.into(), source::Location::KeySet(url.clone()), crate::egress::Egress::Direct));
    keys.note(Ok((set(&now), None)));
    let fetched = Issuer {
        name: issuer.name.clone(),
        audiences: issuer.audiences.clone(),
        keys: IssuerKeys::Fetched(source::Location::KeySet(url), crate::egress::Egress::Direct),
        algorithms: issuer.algorithms.clone(),
        skew: issuer.skew,
        team: issuer.team.clone(),
        teams: None,
        id: issuer.id.clone(),
        routes: None,
    };
    let mut now = now;
    now.tokens.issuers[0] = Trusted { issuer: Arc::new(fetched), source: Some(keys.clone()) };
    let refused = |head: Value| {
        let refusal = now.ask(&later.sign(&head, &claims()), NOW).unwrap_err();
        (refusal.failure, refusal.awaits.is_some())
    };
    assert_eq!(refused(json!({ "alg": "ES256" })), (AuthFailure::TokenSignature, true));
    assert_eq!(refused(json!({ "alg": "ES256", "kid": "ec" })), (AuthFailure::TokenSignature, false), "the key that it names is there");
    assert_eq!(refused(json!({ "alg": "EdDSA", "kid": "ec" })), (AuthFailure::TokenAlgorithm, false));
    keys.note(Ok((set(&later), None)));
    assert!(now.ask(&later.sign(&json!({ "alg": "ES256" }), &claims()), NOW).is_ok());
    // Where keys do not come by themselves, nothing is awaited.
    let other = World::new("");
    let refusal = other.ask(&later.sign(&json!({ "alg": "ES256" }), &claims()), NOW).unwrap_err();
    assert!(refusal.failure == AuthFailure::TokenSignature && refusal.awaits.is_none());
}

#[test]
fn a_token_without_a_kid_at_an_issuer_with_several_keys_is_told_so() {
    let mut world = World::new("");
    let (ec, other) = (world.ec.public_key().as_ref().to_vec(), World::new("").ec.public_key().as_ref().to_vec());
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let key = |id: &str, point: &[u8]| json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": b64(&point[1..33]), "y": b64(&point[33..]) });
    let set = KeySet::parse(json!({ "keys": [key("ec", &ec), key("ec-2", &other)] }).to_string().as_bytes()).unwrap();
    let AuthMode::Credential { issuers, .. } = &mut world.snapshot.tenants.mode else { panic!("there is a mode") };
    *issuers = Arc::default();
    Arc::get_mut(&mut world.tokens.issuers[0].issuer).unwrap().keys = IssuerKeys::Fixed(set);
    let (failure, message) = world.refused("no kid", &world.sign(&json!({ "alg": "ES256" }), &claims()));
    assert!(
        failure == AuthFailure::TokenKeyUnnamed && message.contains("does not name the key") && !message.contains("again"),
        "{message}"
    );
    assert!(world.ask(&world.token(&claims()), NOW).is_ok());
}

/// Problems of an `auth` section, as `line:column: message`.
fn problems(auth: &str) -> Vec<String> {
    let text = format!(
        "providers: {{ p: {{ kind: openai, api_key: k }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\nauth: {auth}\nteams: {{ search: {{}} }}\n"
    );
    config::parse(&text, "t", &|_| None).err().unwrap_or_default().iter().map(|problem| problem.to_string().replace("t:", "")).collect()
}

#[test]
fn what_is_wrong_in_the_configuration_is_told_with_its_place() {
    let issuer = |more: &str| format!("{{ jwt: [ {{ issuer: \"https://idp\", audience: a{more} }} ] }}");
    assert_eq!(problems(&issuer("")), Vec::<String>::new());
    assert_eq!(problems(&issuer(", jwks_url: \"http://127.0.0.1:9/k\", clock_skew: 5m")), Vec::<String>::new());
    for (marked, what) in [
        (issuer(", jwks_url: \"https://a/k\", jwks_file: ^/none"), "exclude each other"),
        (issuer(", jwks_url: ^\"http://idp.example.com/k\""), "must begin with https://"),
        (issuer(", jwks_file: ^/none"), "cannot read the file"),
        (issuer(", algorithms: [^HS256]"), "could also issue them"),
        (issuer(", algorithms: [RS256, ^none]"), "anyone could issue such a token"),
        (issuer(", algorithms: [^rs256]"), "is not one of: RS256"),
        (issuer(", algorithms: [^ES512]"), "is not one of: RS256"),
        (issuer(", algorithms: ^[]"), "at least one"),
        (issuer(", clock_skew: ^6m"), "from 0s to 5m"),
        (issuer(", clock_skew: ^soon"), "from 0s to 5m"),
        (issuer(", team_claim: ^\"\""), "text of 1 to 512 bytes"),
        (issuer(", ^kid: x"), "unknown key `kid`"),
        (issuer(", teams: ^[]"), "at least one"),
        (issuer(", teams: [search, ^serach]"), "there is no team `serach`; did you mean `search`?"),
        ("{ jwt: [ { issuer: ^idp, audience: a } ] }".into(), "`issuer`"),
        ("{ jwt: [ { issuer: ^\"http://idp.example.com\", audience: a } ] }".into(), "must begin with https://"),
        ("{ jwt: [ ^{ issuer: \"https://idp\" } ] }".into(), "`audience` is missing"),
        ("{ jwt: [ { issuer: \"https://idp\", audience: ^[] } ] }".into(), "at least one"),
        ("{ jwt: [ { issuer: \"https://i\", audience: a }, { issuer: ^\"https://i\", audience: b } ] }".into(), "another entry"),
        ("^{ keys: false }".into(), "every request would be refused"),
        ("^oidc".into(), "keys, none"),
    ] {
        // The mark stands before the place.
        let (place, auth) = (format!("3:{}:", "auth: ".len() + marked.find('^').unwrap() + 1), marked.replace('^', ""));
        let found = problems(&auth);
        assert!(found.iter().any(|problem| problem.starts_with(&place) && problem.contains(what)), "{auth}: {place} {what}: {found:#?}");
    }
}

#[test]
fn what_makes_no_sense_together_is_warned_of() {
    let jwt = "jwt: [ { issuer: \"https://idp\", audience: a } ]";
    let key = format!("keys: [ {{ id: k, sha256: \"{}\" }} ]", crate::auth::key::digest("k"));
    for (auth, teams, warning) in [
        (format!("{{ {jwt} }}"), "t: {}".to_owned(), None),
        (format!("{{ {jwt} }}"), "t: { users: [ { id: u } ] }".to_owned(), None),
        (format!("{{ {jwt}, keys: false }}"), format!("t: {{ {key} }}"), Some("`keys` of `auth` is false")),
        (format!("{{ {jwt} }}"), String::new(), Some("there is no team")),
        (format!("{{ {jwt} }}"), "t: { routes: [] }".to_owned(), Some("no team may use the route `r`; add it to the `routes` of a team")),
        (format!("{{ {jwt} }}"), "t: { users: [ { id: u, limits: [ { usd: 5, per: day } ] } ] }".to_owned(), Some("never counts anything")),
        (
            format!("{{ {jwt} }}"),
            format!("s: {{ users: [ {{ id: u }} ] }}, t: {{ {} }}", key.replace("id: k", "id: k, limits: [ { usd: 5, per: day } ]")),
            Some("never counts anything"),
        ),
        ("keys".to_owned(), format!("t: {{ {key}, users: [ {{ id: u }} ] }}"), Some("`users` has no effect")),
    ] {
        let text = format!(
            "providers: {{ p: {{ kind: openai, api_key: k }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\nauth: {auth}\nteams: {{ {teams} }}\n"
        );
        let loaded = config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{text}{problems:#?}"));
        let warnings: Vec<_> = loaded.warnings.iter().map(|warning| warning.message.as_str()).collect();
        assert!(warnings.len() == usize::from(warning.is_some()), "{text}{warnings:#?}");
        assert!(warning.is_none_or(|warning| warnings[0].contains(warning)), "{text}{warnings:#?}");
    }
}

#[test]
fn an_issuer_whose_keys_were_never_there_is_a_503_that_says_when_to_come_back() {
    let text = format!(
        "providers: {{ p: {{ kind: openai, api_key: k }} }}\nroutes: {{ r: {{ targets: [ {{ provider: p, model: m }} ] }} }}\n\
         auth: {{ jwt: [ {{ issuer: \"{ISSUER}\", audience: tidegate, algorithms: [ES256] }} ] }}\nteams: {{ search: {{}} }}\n"
    );
    let snapshot = config::parse(&text, "t", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot;
    let fetched = tokens(&snapshot);
    let world = World::new("");
    let world = World { tokens: Tokens::new(&snapshot.tenants, std::iter::empty(), Some(&fetched)).unwrap(), snapshot, ..world };
    let refusal = world.ask(&world.token(&claims()), NOW).unwrap_err();
    let error = refusal.error(&world.snapshot.tenants.mode);
    assert_eq!((refusal.failure, error.status, error.kind.name()), (AuthFailure::JwksUnavailable, 503, "overloaded_error"));
    assert!(error.retry_after.is_some_and(|wait| wait >= std::time::Duration::from_secs(1)));
    let [before, after] = [&fetched, &world.tokens].map(|tokens| Arc::clone(tokens.sources().next().unwrap()));
    assert!(Arc::ptr_eq(&before, &after), "a reload keeps what was fetched");
    // A bad algorithm is no reason to wait.
    assert_eq!(world.refused("none", &world.sign(&json!({ "alg": "none" }), &claims())).0, AuthFailure::TokenAlgorithm);
}
