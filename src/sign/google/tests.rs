//! Tests of token sources against a local token server.

use super::*;
use crate::dir::Dir;
use crate::sign::fresh::Fresh;
use crate::sign::testing::{dead_proxy, serve};
use std::sync::{Arc, Mutex};

const ACCOUNT: &str = include_str!("../../../tests/fixtures/gemini/service-account.json");

/// A token server that sends the same response to every request.
async fn server(status: u16, body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    serve(move |_| (status, body.to_owned())).await
}

const GRANTED: &str = r#"{"access_token":"ya29.test","expires_in":3599,"token_type":"Bearer"}"#;

/// A credentials file.
fn file(dir: &Dir, text: &str) -> PathBuf {
    dir.write("application_default_credentials.json", text)
}

fn account(dir: &Dir, base: &str) -> PathBuf {
    file(dir, &ACCOUNT.replace("\"TOKEN_URI\"", &format!("\"{base}/token\"")))
}

fn source(path: PathBuf) -> Fresh<Origin> {
    Fresh::new(Origin::new(Some(path), Egress::Direct), REFRESH_BEFORE)
}

#[tokio::test]
async fn a_service_account_is_exchanged_for_a_token() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let (base, seen) = server(200, GRANTED).await;
    let dir = Dir::new();
    let token = source(account(&dir, &base)).get().await.unwrap();
    assert_eq!(token.header(), "Bearer ya29.test");
    assert!(token.header().is_sensitive());
    let request = seen.lock().unwrap().remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /token HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&base.replace("http://", "host: ")), "{head}");
    let jwt = body.strip_prefix("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=").unwrap();
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let public: serde_json::Value = serde_json::from_str(ACCOUNT).unwrap();
    let public = STANDARD.decode(public["public_key_der_base64"].as_str().unwrap()).unwrap();
    ring::signature::UnparsedPublicKey::new(&ring::signature::RSA_PKCS1_2048_8192_SHA256, public)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let part = |p| serde_json::from_slice::<serde_json::Value>(&URL_SAFE_NO_PAD.decode(p).unwrap()).unwrap();
    assert_eq!(part(head), serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "test-key-1"}));
    let claims = part(claims);
    assert_eq!(claims["iss"], "gateway@test.example");
    assert_eq!(claims["aud"], "https://oauth2.googleapis.com/token");
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
}

#[tokio::test]
async fn everybody_shares_one_fetch() {
    let (base, seen) = server(200, GRANTED).await;
    let dir = Dir::new();
    let source = source(account(&dir, &base));
    let (a, b, c, d) = tokio::join!(source.get(), source.get(), source.get(), source.get());
    for token in [a, b, c, d, source.get().await] {
        assert_eq!(token.unwrap().header(), "Bearer ya29.test");
    }
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_authorized_user_refreshes() {
    let (base, seen) = server(200, GRANTED).await;
    let text =
        format!(r#"{{"type":"authorized_user","client_id":"id","client_secret":"s/cret","refresh_token":"1//r","token_uri":"{base}/t"}}"#);
    let dir = Dir::new();
    source(file(&dir, &text)).get().await.unwrap();
    assert!(
        seen.lock().unwrap()[0].ends_with("\r\n\r\ngrant_type=refresh_token&client_id=id&client_secret=s%2Fcret&refresh_token=1%2F%2Fr")
    );
}

#[tokio::test]
async fn a_failure_shows_nothing_of_the_answer_and_rests() {
    let (base, seen) = server(400, r#"{"error":"invalid_grant","error_description":"PRIVATE"}"#).await;
    let dir = Dir::new();
    let source = source(account(&dir, &base));
    let (a, b) = tokio::join!(source.get(), source.get());
    let (a, b) = (a.err().unwrap(), b.err().unwrap());
    assert!(a.ends_with("400 invalid_grant") && !a.contains("PRIVATE"), "{a}");
    assert!(b.contains("just failed"), "{b}");
    assert_eq!(seen.lock().unwrap().len(), 1, "the failure was not shared");
}

#[tokio::test]
async fn a_failure_does_not_repeat_what_was_sent() {
    for (client_secret, refresh_token) in [("correct_horse_battery", "r"), ("s", "correct_horse_battery")] {
        let (base, _seen) = server(401, r#"{"error":"correct_horse_battery"}"#).await;
        let text = format!(
            r#"{{"type":"authorized_user","client_id":"id","client_secret":"{client_secret}","refresh_token":"{refresh_token}","token_uri":"{base}/t"}}"#
        );
        let dir = Dir::new();
        let why = source(file(&dir, &text)).get().await.err().unwrap();
        assert_eq!(why, "the token server returned 401 [redacted]");
    }
}

#[tokio::test]
async fn a_token_in_use_and_the_one_before_it_are_kept_out_of_every_text() {
    let text = "tokens first-granted-token, second-granted-token";
    let tokens = Fresh::new(Origin::new(None, Egress::Direct), REFRESH_BEFORE);
    let token = |text: &str| Token::new(&Secret::new(text.into()), SystemTime::now() + Duration::from_secs(3600)).unwrap();
    tokens.put(token("first-granted-token")).await;
    assert_eq!(crate::redact::redact(text), "tokens [redacted], second-granted-token");
    tokens.put(token("second-granted-token")).await;
    assert_eq!(crate::redact::redact(text), "tokens [redacted], [redacted]");
    tokens.put(token("third-granted-token")).await;
    assert_eq!(crate::redact::redact(text), "tokens first-granted-token, [redacted]");
}

#[tokio::test]
async fn a_missing_or_foreign_file_is_a_failure() {
    let (foreign, none) = (Dir::new(), Dir::new());
    for path in [PathBuf::from("/nowhere/at/all.json"), file(&foreign, r#"{"type":"external_account"}"#), file(&none, "[1]")] {
        assert!(source(path).get().await.is_err());
    }
}

#[tokio::test]
async fn the_default_order_is_variable_then_gcloud_then_metadata() {
    let (token_server, tokens) = server(200, GRANTED).await;
    let (metadata, asked) = server(200, GRANTED).await;
    let dir = Dir::new();
    let named = account(&dir, &token_server);
    let folder = dir.to_str().unwrap().to_owned();
    let with = |vars: Vec<(&'static str, String)>| move |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
    let host = ("GCE_METADATA_HOST", metadata.replace("http://", ""));
    let variable = ("GOOGLE_APPLICATION_CREDENTIALS", named.to_str().unwrap().to_owned());
    grant::from_environment(&with(vec![variable, host.clone()]), &Egress::Direct).await.map(|_| ()).unwrap();
    assert_eq!(tokens.lock().unwrap().len(), 1);
    grant::from_environment(&with(vec![("CLOUDSDK_CONFIG", folder), host.clone()]), &Egress::Direct).await.map(|_| ()).unwrap();
    assert_eq!((tokens.lock().unwrap().len(), asked.lock().unwrap().len()), (2, 0));
    // Reached directly: the proxy refuses connections.
    let grant = grant::from_environment(&with(vec![("HOME", "/nowhere".to_owned()), host]), &dead_proxy()).await.map_err(|_| ()).unwrap();
    assert_eq!(grant.token.expose(), "ya29.test");
    let head = asked.lock().unwrap().remove(0);
    assert!(head.starts_with("GET /computeMetadata/v1/instance/service-accounts/default/token?scopes=https://"), "{head}");
    assert!(head.contains("metadata-flavor: Google"), "{head}");
}
