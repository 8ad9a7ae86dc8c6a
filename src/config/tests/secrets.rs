//! Where credentials come from, and that no message shows one.

use super::*;
use crate::yaml::problem::Position;

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
                let shown = render::render(&problems, true) + &every_line(&text);
                assert!(!shown.contains(secret), "{glued}: {shown}");
            }
        }
    }
    let problems = bad(&GOOD.replace(entry, "api_key:sk-live-0123456789abcdef"));
    assert!(problems[1].ends_with("unknown key `api_key…`; a space is missing after `api_key:`"), "{problems:#?}");
}

#[test]
fn every_credential_may_come_from_a_file_that_is_watched() {
    let folder = Dir::new();
    let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
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
    assert!(
        matches!(&snapshot.providers[1].credential, Credential::Aws { keys: Some(keys), .. } if keys.secret_access_key.expose() == "aws-secret")
    );
    assert!(matches!(&snapshot.providers[2].credential, Credential::Bearer(token) if token.expose() == "ya29"));
    assert_eq!(snapshot.limit_store.redis.as_ref().unwrap().expose(), "redis://:hidden@127.0.0.1:6379");
    assert_eq!(files.len(), 6);
    for (name, content, problem) in [
        ("header", "\n", "the secret in this file must be set; it is empty"),
        ("key", "two\nlines", "the secret in this file must be one line"),
        ("url", "http://:hidden@h", "the text in this file must be `memory`, or a URL like"),
    ] {
        let before = std::fs::read(folder.join(name)).unwrap();
        folder.write(name, content);
        let problems = bad(&text);
        assert!(problems.len() == 1 && problems[0].contains(problem) && !problems[0].contains("hidden"), "{problems:?}");
        std::fs::write(folder.join(name), before).unwrap();
    }
    let problems = bad(&GOOD.replace("api_key: \"sk-not-to-be-printed\"", "api_key: { fil: x }"));
    assert!(problems.iter().any(|problem| problem.contains("unknown key `fil`; did you mean `file`?")), "{problems:?}");
}

/// Every line of a text as a problem on it would show it.
fn every_line(text: &str) -> String {
    let mut excerpts = excerpt::Excerpts::new(text);
    let places = (1..=text.lines().count()).map(|line| Position { line, column: 1 });
    places.filter_map(|at| excerpts.at(at)).map(|excerpt| excerpt.text + "\n").collect()
}

#[test]
fn a_source_line_shows_what_is_harmless_and_hides_the_rest() {
    for (line, shown) in [
        (
            "  one: { kind: opnai, api_key: \"S3CRET\", base_url: \"http://h/v1\" }",
            "  one: { kind: opnai, api_key: …, base_url: \"http://h/v1\" }",
        ),
        ("  one: { api_ky: S3CRET, kind: vllm } # S3CRET", "  one: { api_ky: …, kind: vllm }"),
        ("    - { provider: one, model: m, weight: 3 }", "    - { provider: one, model: m, weight: 3 }"),
        ("  api_key: S3CRET, and: more", "  api_key: …"),
        ("  api_ky: S3CRET and: more", "  api_ky: …"),
        ("headers: { version: S3CRET, kind: \"S3CRET\" }", "headers: { version: …, kind: … }"),
        ("base_url: https://u:S3CRET@h/v1", "base_url: …"),
        ("base_url: https://h/v1?key=S3CRET", "base_url: https://h/v1?…"),
        ("store: redis://:S3CRET@h", "store: …"),
        ("api_key_file: S3CRET", "api_key_file: …"),
        ("api_key_file: /run/secrets/openai", "api_key_file: /run/secrets/openai"),
        ("kind: \"openai\" S3CRET", "kind: \"openai\"…"),
        ("tls: { verify: true } S3CRET", "tls: { verify: true }…"),
        ("kind: \"S3CRET", "kind: …"),
        ("{ api_key: ${KEY}, api_key: \"${KEY}\", api_key: ${KEY:-S3CRET} }", "{ api_key: ${KEY}, api_key: \"${KEY}\", api_key: … }"),
        ("timeouts: { first_token: 3s }", "timeouts: { first_token: 3s }"),
        ("routes: [a, \"openai/*\"]", "routes: [a, \"openai/*\"]"),
        ("params: { defaults: { temprature: 0.2, stop: [\"a\"] } }", "params: { defaults: { temprature: 0.2, stop: [\"a\"] } }"),
    ] {
        assert_eq!(every_line(line).trim_end(), shown, "{line}");
    }
}

#[test]
fn no_line_of_a_file_shows_a_secret_that_another_line_makes_one() {
    for text in [
        "headers:\n  version: S3CRET\n  kind: S3CRET\n",
        "  one:\n    headers:\n      # a comment\n\n      version: S3CRET\n",
        "headers: {\n  version: S3CRET,\n  kind: S3CRET }\n",
        "api_key: |\n  S3CRET\n  kind: S3CRET\n",
        "api_key:\n  S3CRET\n",
        "api_key: \"a\n  S3CRET\"\nkind: x\n",
        "one: { api_key: \"a\n  S3CRET\", version: 'b\nS3CRET' }\n",
        "system: |\n  'tis\napi_key: 'S3CRET'\nkind: x\napi_key: S3CRET\n",
        "api_key: [\n  S3CRET,\n  S3CRET ]\n",
        "api_key: abc\n  S3CRET: x\n",
        "credentials:\n  version: S3CRET\n",
        "keys:\n- id: x\n  sha256: S3CRET\n- sha256:\n    S3CRET\n",
        "seal_keys: [ S3CRET ]\nseal_keys:\n  - S3CRET\n",
    ] {
        let shown = every_line(text);
        assert!(!shown.contains("S3CRET"), "{text}\n{shown}");
    }
}

#[test]
fn the_caret_stands_below_its_place_also_behind_what_is_hidden() {
    let line = "one: { api_key: abc, kind: opnai }";
    let at = line.find("opnai").unwrap() + 1;
    let excerpt = excerpt::Excerpts::new(line).at(Position { line: 1, column: at }).unwrap();
    assert_eq!((excerpt.text.as_str(), excerpt.caret), ("one: { api_key: …, kind: opnai }", "one: { api_key: …, kind: ".chars().count()));
}
