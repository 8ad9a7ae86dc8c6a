//! Tests of every source of the chain against a small server.

use super::*;
use crate::dir::Dir;
use crate::egress::proxy::Proxy;
use crate::sign::testing::{dead_proxy, serve};
use std::collections::HashMap;

async fn load_from(vars: &[(&str, &str)]) -> Result<AwsCredentials, Reason> {
    load_through(&Egress::Direct, vars).await
}

async fn load_through(egress: &Egress, vars: &[(&str, &str)]) -> Result<AwsCredentials, Reason> {
    let vars: HashMap<String, String> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(&|name| vars.get(name).cloned(), "us-east-1", egress).await
}

fn shown(keys: &AwsCredentials) -> (String, String, String, u64) {
    let token = keys.session_token.as_ref().map(|t| t.to_str().unwrap().to_owned()).unwrap_or_default();
    let end = keys.expires.map_or(0, |e| e.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs());
    (keys.access_key_id.clone(), keys.secret_access_key.expose().to_owned(), token, end)
}

const JSON: &str = r#"{"Code":"Success","AccessKeyId":"ASIAX","SecretAccessKey":"s/+","Token":"t=","Expiration":"2030-01-01T00:00:00Z"}"#;
const XML: &str = "<R><Credentials><AccessKeyId>ASIAX</AccessKeyId><SecretAccessKey>s/+</SecretAccessKey><SessionToken>t=</SessionToken>\
    <Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></R>";

fn temporary_keys() -> (String, String, String, u64) {
    ("ASIAX".into(), "s/+".into(), "t=".into(), 1_893_456_000)
}

#[tokio::test]
async fn the_environment_comes_first() {
    let keys = load_from(&[("AWS_ACCESS_KEY_ID", "AKIA"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_PROFILE", "none")]).await.ok().unwrap();
    assert_eq!(shown(&keys), ("AKIA".into(), "s".into(), String::new(), 0));
}

#[tokio::test]
async fn a_profile_has_keys_or_a_role() {
    let (sts, seen) = serve(|_| (200, XML.into())).await;
    let home = Dir::new();
    let credentials = home.write("credentials", "[base]\naws_access_key_id=AKIB\naws_secret_access_key=b\n");
    let config = home.write(
        "config",
        "[profile role]\nrole_arn=arn:aws:iam::1:role/x\nsource_profile=base\nexternal_id=e 1\n[profile sso]\nsso_session=x\n\
         [profile chained]\nrole_arn=arn:y\nsource_profile=role\n[profile circle]\nrole_arn=arn:z\nsource_profile=round\n\
         [profile round]\nrole_arn=arn:z\nsource_profile=circle\n[profile alone]\nrole_arn=arn:z\n\
         [profile sourced]\nrole_arn=arn:s\ncredential_source=Environment\n[profile odd]\nrole_arn=arn:s\ncredential_source=Sso\n",
    );
    let with = |profile: &'static str| {
        let (credentials, config, sts) = (credentials.clone(), config.clone(), sts.clone());
        async move {
            load_from(&[
                ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
                ("AWS_CONFIG_FILE", config.to_str().unwrap()),
                ("AWS_PROFILE", profile),
                ("AWS_ENDPOINT_URL_STS", &sts),
            ])
            .await
        }
    };
    assert_eq!(shown(&with("base").await.ok().unwrap()).0, "AKIB");
    assert_eq!(shown(&with("role").await.ok().unwrap()), temporary_keys());
    let asked = seen.lock().unwrap()[0].clone();
    assert!(asked.contains("Action=AssumeRole&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fx&RoleSessionName=tidegate&ExternalId=e%201"));
    assert!(asked.contains("Credential=AKIB/") && asked.contains("/us-east-1/sts/aws4_request"));
    for (profile, word) in
        [("sso", "sso"), ("circle", "too many"), ("alone", "source_profile"), ("sourced", "no credentials"), ("odd", "must be")]
    {
        let why = with(profile).await.err().unwrap();
        assert!(why.contains(word) && why.contains(profile), "{why}");
    }
    seen.lock().unwrap().clear();
    assert_eq!(shown(&with("chained").await.ok().unwrap()), temporary_keys());
    let asked = seen.lock().unwrap().clone();
    assert!(asked[0].contains("role%2Fx") && asked[0].contains("Credential=AKIB/"));
    assert!(asked[1].contains("RoleArn=arn%3Ay") && asked[1].contains("Credential=ASIAX/") && asked.len() == 2);
}

#[tokio::test]
async fn a_role_is_assumed_with_a_containers_keys() {
    let (agent, _) = serve(|_| (200, JSON.into())).await;
    let (sts, seen) = serve(|_| (200, XML.into())).await;
    let home = Dir::new();
    let config = home.write("config", "[default]\nrole_arn=arn:s\ncredential_source=EcsContainer\n");
    let vars = [
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent),
        ("AWS_ENDPOINT_URL_STS", &sts),
        ("HOME", "/nonexistent"),
    ];
    assert_eq!(shown(&load_from(&vars).await.ok().unwrap()), temporary_keys());
    assert!(seen.lock().unwrap()[0].contains("Credential=ASIAX/"));
}

#[tokio::test]
async fn a_web_identity_is_traded() {
    let (sts, seen) = serve(|_| (200, XML.into())).await;
    let dir = Dir::new();
    let file = dir.write("token", "ey.J+x\n");
    let path = file.to_str().unwrap();
    let vars = [("AWS_WEB_IDENTITY_TOKEN_FILE", path), ("AWS_ROLE_ARN", "arn:r"), ("AWS_ENDPOINT_URL_STS", &sts), ("HOME", "/nonexistent")];
    assert_eq!(shown(&load_from(&vars).await.ok().unwrap()), temporary_keys());
    let asked = seen.lock().unwrap()[0].clone();
    assert!(asked.starts_with("POST / ") && asked.contains("WebIdentityToken=ey.J%2Bx") && !asked.contains("authorization"));

    let (sts, _) = serve(|_| (403, "<E><Code>ExpiredTokenException</Code><Message>ey.J</Message></E>".into())).await;
    let vars = [("AWS_WEB_IDENTITY_TOKEN_FILE", path), ("AWS_ROLE_ARN", "arn:r"), ("AWS_ENDPOINT_URL_STS", &sts)];
    assert_eq!(load_from(&vars).await.err().unwrap(), "STS returned status 403 (ExpiredTokenException)");
}

#[tokio::test]
async fn sts_is_asked_through_the_proxy() {
    let (proxy, seen) = serve(|_| (200, XML.into())).await;
    let dir = Dir::new();
    let file = dir.write("token", "ey.J");
    let path = file.to_str().unwrap();
    let vars =
        |sts| [("AWS_WEB_IDENTITY_TOKEN_FILE", path), ("AWS_ROLE_ARN", "arn:r"), ("AWS_ENDPOINT_URL_STS", sts), ("HOME", "/nonexistent")];
    let egress = |url: &str| Egress::Through(Proxy::parse(url).unwrap().into());
    let account = egress(&proxy.replace("http://", "http://user:hunter2-hunter2@"));
    assert_eq!(shown(&load_through(&account, &vars("http://sts.invalid")).await.ok().unwrap()), temporary_keys());
    let asked = seen.lock().unwrap()[0].clone();
    assert!(asked.starts_with("POST http://sts.invalid/ HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("host: sts.invalid\r\n") && asked.contains("proxy-authorization: Basic "), "{asked}");
    for sts in ["http://sts.invalid", "https://sts.invalid"] {
        let why = load_through(&dead_proxy(), &vars(sts)).await.err().unwrap();
        assert!(why.starts_with("STS: could not connect to the egress proxy 127.0.0.1:1"), "{why}");
        let (proxy, seen) = serve(|_| (407, String::new())).await;
        let why = load_through(&egress(&proxy), &vars(sts)).await.err().unwrap();
        assert!(why.contains("the egress proxy 127.0.0.1:") && why.contains("refused with status 407"), "{why}");
        assert_eq!(seen.lock().unwrap()[0].starts_with("CONNECT sts.invalid:443 HTTP/1.1\r\n"), sts.starts_with("https"));
    }
}

#[tokio::test]
async fn a_container_is_asked_with_its_token() {
    let (agent, seen) = serve(|_| (200, JSON.into())).await;
    let uri = format!("{agent}/v1/credentials");
    let vars = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()), ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "abc")];
    assert_eq!(shown(&load_through(&dead_proxy(), &vars).await.ok().unwrap()), temporary_keys(), "the container is asked directly");
    assert!(seen.lock().unwrap()[0].contains("authorization: abc\r\n"));
    let far = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.com/keys")];
    assert!(load_from(&far).await.err().unwrap().contains("neither https nor a local address"));
}

#[tokio::test]
async fn an_instances_role_is_read_with_a_session() {
    let (host, seen) = serve(|asked| match asked.split(' ').nth(1).unwrap() {
        "/latest/api/token" => (200, "session1".into()),
        _ if !asked.contains("x-aws-ec2-metadata-token: session1\r\n") => (401, String::new()),
        "/latest/meta-data/iam/security-credentials/" => (200, "my-role\n".into()),
        "/latest/meta-data/iam/security-credentials/my-role" => (200, JSON.into()),
        _ => (404, String::new()),
    })
    .await;
    let vars = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", host.as_str())];
    assert_eq!(shown(&load_through(&dead_proxy(), &vars).await.ok().unwrap()), temporary_keys(), "the instance is asked directly");
    assert!(seen.lock().unwrap()[0].starts_with("PUT "));
    assert!(load_from(&[("AWS_EC2_METADATA_DISABLED", "true")]).await.is_err());
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_not_shown() {
    for body in
        [r#"{"AccessKeyId":"ASIAX","SecretAccessKey":7}"#, "secret", r#"{"Code":"Failed","AccessKeyId":"A","SecretAccessKey":"secret"}"#]
    {
        let (agent, _) = serve(move |_| (200, body.into())).await;
        let why = load_from(&[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &agent)]).await.err().unwrap();
        assert!(!why.contains("secret") && !why.contains("ASIAX"), "{why}");
    }
}
