//! Where credentials come from, and that no message shows one.

use super::*;

#[test]
fn no_message_repeats_a_secret_or_what_a_variable_stands_for() {
    let leak = |name: &str| (name == "KEY").then(|| "s3cret\nvalue".to_owned());
    let text = GOOD
        .replace("routes:", "  two: { kind: openai, api_key_file: \"${KEY}\" }\nroutes:")
        .replace(
            "\"sk-not-to-be-printed\"",
            "\"${KEY}\", headers: { authorization: \"${KEY}\" }, base_url: \"${KEY}\", timeouts: { connect: \"${KEY}\" }",
        )
        .replace("auth: none", "auth: \"${KEY}\"\nteams: { t: { keys: [ { id: \"${KEY}\", sha256: \"${KEY}\", expires: \"${KEY}\" } ] } }");
    let problems = parse(&text, "t.yaml", &leak).err().unwrap();
    assert!(problems.len() >= 8, "{problems:#?}");
    for problem in problems {
        assert!(!problem.message.contains("s3cret"), "{problem}");
    }
}

#[test]
fn a_forgotten_space_or_quote_does_not_show_the_secret_behind_it() {
    let entry = "api_key: \"sk-not-to-be-printed\"";
    assert!(GOOD.contains(entry));
    for secret in ["sk-live-0123456789abcdef", "correcthorsebattery", "correct-horse-battery", "8675309867530986"] {
        for glued in [
            format!("api_key:{secret}"),
            format!("api_key={secret}"),
            format!("\"api_key {secret}\": x"),
            format!("api_key:{secret}, api_key:{secret}"),
            format!("headers: {{ x-proxy-auth:{secret} }}"),
            format!("headers: {{ x-proxy-auth={secret} }}"),
            format!("headers: {{ x-proxy-auth {secret} }}"),
            format!("headers: {{ authorization:Bearer {secret} }}"),
            format!("base_url: http://h api_key:{secret}"),
            format!("api_key: k, tls: api_key:{secret}"),
            format!("api_key: k, max_connections: 5 api_key:{secret}"),
            format!("api_key: k, max_connections: 5 \"api_key\" = {secret}"),
            format!("api_key: \"{secret}"),
            format!("api_key: [ {secret} ]"),
            format!("api_key: &{secret}"),
            format!("api_key: *{secret}"),
            format!("api_key: !{secret} x"),
            format!("api_key: }} {secret}"),
            format!("credentials: {{ secret_access_key:{secret} }}"),
            format!("api_key: |{secret}"),
        ] {
            for text in
                [GOOD.replace(entry, &glued), GOOD.replace(entry, &format!("api_key: k }}\n  q:\n    kind: openai\n    {glued}\n  r: {{"))]
            {
                let problems = parse(&text, "t.yaml", &|_| None).err().unwrap_or_else(|| panic!("{text}"));
                assert!(!problems.iter().any(|problem| problem.message.contains(secret)), "{glued}: {problems:#?}");
            }
        }
    }
    let problems = bad(&GOOD.replace(entry, "api_key:sk-live-0123456789abcdef"));
    assert!(problems[1].ends_with("unknown key `api_key…`; a space is missing after `api_key:`"), "{problems:#?}");
}

#[test]
fn every_credential_may_come_from_a_file_that_is_watched() {
    let folder = std::env::temp_dir().join(format!("tidegate-secrets-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (key, header, id) = (file("key", "sk-in-file\n"), file("header", " in-header "), file("id", "AK"));
    let (secret, token, url) = (file("secret", "aws-secret"), file("token", "ya29"), file("url", "redis://:hidden@127.0.0.1:6379\n"));
    let text = GOOD
        .replace("api_key: \"sk-not-to-be-printed\"", &format!("api_key: {{ file: {key} }}, headers: {{ x-team: {{ file: {header} }} }}"))
        .replace("routes:", &format!(
            "  aws: {{ kind: bedrock, region: r, credentials: {{ access_key_id: {{ file: {id} }}, secret_access_key: {{ file: {secret} }} }} }}\n  \
             google: {{ kind: vertex, project: p, location: l, access_token: {{ file: {token} }} }}\nlimits: {{ store: {{ file: {url} }} }}\nroutes:"
        ));
    let Loaded { snapshot, files, .. } = good(&text);
    assert!(matches!(&snapshot.providers[0].credential, Credential::Bearer(key) if key.expose() == "sk-in-file"));
    assert_eq!(snapshot.providers[0].headers[0].1, "in-header");
    assert!(matches!(&snapshot.providers[1].credential, Credential::AwsKeys { secret_access_key: k, .. } if k.expose() == "aws-secret"));
    assert!(matches!(&snapshot.providers[2].credential, Credential::GoogleToken(token) if token.expose() == "ya29"));
    assert_eq!(snapshot.limit_store.redis.as_ref().unwrap().expose(), "redis://:hidden@127.0.0.1:6379");
    assert_eq!(files.len(), 6);
    for (name, content, problem) in [
        ("header", "\n", "the secret in this file must be set; it is empty"),
        ("key", "two\nlines", "the secret in this file must be one line"),
        ("url", "http://:hidden@h", "the text in this file must be `memory`, or a URL like"),
    ] {
        let before = std::fs::read(folder.join(name)).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
        let problems = bad(&text);
        assert!(problems.len() == 1 && problems[0].contains(problem) && !problems[0].contains("hidden"), "{problems:?}");
        std::fs::write(folder.join(name), before).unwrap();
    }
    let problems = bad(&GOOD.replace("api_key: \"sk-not-to-be-printed\"", "api_key: { fiel: x }"));
    assert!(problems.iter().any(|problem| problem.contains("unknown key `fiel`; did you mean `file`?")), "{problems:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}
