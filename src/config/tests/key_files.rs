//! Key files: what of them is in force, and which one is to blame.

use super::*;
use crate::auth::tenants::Key;
use crate::config;

const MAIN: &str = "\
providers: { p: { kind: openai, api_key: k } }
routes: { a: { targets: [ { provider: p, model: m } ] }, b: { targets: [ { provider: p, model: m } ] } }
teams:
  main: { routes: [a], limits: [ { requests: 5, per: 1m } ], keys: [ { id: own, sha256: SHA0 } ] }
";

/// `SHA` and a digit are a digest.
fn text(text: &str) -> String {
    (0..10).fold(text.to_owned(), |text, digit: u32| text.replace(&format!("SHA{digit}"), &format!("\"{}\"", digit.to_string().repeat(64))))
}

/// What becomes of files of these names and contents.
fn apply(files: &[(&str, &str)], before: &[KeyFile]) -> Applied {
    let snapshot = config::parse(&text(MAIN), "main.yaml", &|_| None).unwrap_or_else(|problems| panic!("{problems:?}")).snapshot;
    let found = files.iter().map(|(name, content)| (PathBuf::from(name), Ok(text(content).into()))).collect();
    let routes = ByName::of_routes(&snapshot.routes);
    Applied::of(Path::new("keys.d"), Arc::new(snapshot.tenants), &routes, (found, before), (&|_| None, 1_800_000_000))
}

fn told(applied: &Applied) -> Vec<String> {
    applied.problems.iter().map(ToString::to_string).collect()
}

/// Ids with the names of their teams; the last one is that of requests without a key.
fn keys(applied: &Applied) -> Vec<String> {
    let Tenants { keys, teams, digests, .. } = &applied.tenants;
    assert_eq!(digests.len() + 1, keys.len());
    assert!(keys.iter().enumerate().take(keys.len() - 1).all(|(index, key)| digests[&key.digest.unwrap()] == index));
    let name = |key: &Key| format!("{}/{}", teams[key.team].name, key.id);
    let (last, keys) = keys.split_last().unwrap();
    assert_eq!((name(last).as_str(), last.team), ("anonymous/anonymous", teams.len() - 1));
    keys.iter().map(name).collect()
}

const RED: (&str, &str) = ("red.yaml", "keys: [ { id: r1, sha256: SHA1 }, { id: r2, sha256: SHA2 } ]\n");

#[test]
fn a_file_is_a_team_or_has_keys_of_one_of_the_main_file() {
    let blue =
        "team: bl/ue\nroutes: [b]\nlimits: [ { tokens: 9, per: day, routes: [b] } ]\nkeys: [ { id: b1, sha256: SHA3, routes: [b] } ]\n";
    let applied =
        apply(&[RED, ("x.yaml", blue), ("main.yaml", "keys: [ { id: more, sha256: SHA4 } ]\n"), ("none.yaml", "keys: []\n")], &[]);
    assert_eq!(told(&applied), [""; 0]);
    assert_eq!(keys(&applied), ["main/own", "red/r1", "red/r2", "bl/ue/b1", "main/more"]);
    let team = applied.tenants.teams.iter().find(|team| &*team.name == "bl/ue").unwrap();
    assert_eq!((team.limits.len(), team.routes.as_ref().unwrap().has(1), team.routes.as_ref().unwrap().has(0)), (1, true, false));
    assert_eq!(applied.dir.in_force.len(), 4);
}

#[test]
fn every_mistake_is_told_with_its_file_and_place_and_leaves_the_others_alone() {
    for (content, place, word) in [
        ("", "1:1", "the file is empty"),
        ("# nothing\n", "1:1", "the file is empty"),
        ("keys: [", "1:7", "not YAML"),
        ("keis: []\n", "1:1", "unknown key `keis`; did you mean `keys`?"),
        ("routes: [c]\n", "1:10", "there is no route `c`"),
        ("limits: [ { tokens: 1, per: 1m, routes: [c] } ]\n", "1:42", "there is no route `c`"),
        ("team: main\nlimits: []\n", "2:1", "in the main configuration, which has its limits"),
        ("team: main\nroutes: [a]\n", "2:1", "in the main configuration, which has its routes"),
        ("team: red\n", "1:7", "the team `red` has a file already: red.yaml"),
        ("team: anonymous\n", "1:7", "is taken"),
        ("keys:\n  - { id: own, sha256: SHA7 }\n", "2:11", "two keys with the id `own`; the other one is in the team `main`"),
        ("keys:\n  - { id: x, sha256: SHA0 }\n", "2:22", "the same digest as another key; the other one is in the team `main`"),
        ("keys:\n  - { id: r1, sha256: SHA7 }\n", "2:11", "two keys with the id `r1`; the other one is in the team `red`"),
        ("keys:\n  - { id: x, sha256: SHA7 }\n  - { id: x, sha256: SHA8 }\n", "3:11", "the other one is in the team `z`"),
        ("keys:\n  - { id: x, sha256: tg-secret }\n", "2:22", "64 hexadecimal digits"),
    ] {
        let applied = apply(&[RED, ("z.yaml", content)], &[]);
        let told = told(&applied);
        assert!(
            matches!(&told[..], [one] if one.starts_with(&format!("z.yaml:{place}: ")) && one.contains(word)),
            "{content:?}: {told:#?}"
        );
        assert!(!told[0].contains("tg-secret"));
        assert_eq!(keys(&applied), ["main/own", "red/r1", "red/r2"], "{content:?}");
        assert_eq!((applied.dir.in_force.len(), applied.lost), (1, false));
    }
}

#[test]
fn what_was_in_force_stays_while_its_file_is_bad() {
    let first = apply(&[RED, ("blue.yaml", "keys: [ { id: b1, sha256: SHA3 } ]\n")], &[]);
    let bad = apply(&[("red.yaml", "keys: [ {"), ("blue.yaml", "keys: [ { id: b2, sha256: SHA4 } ]\n")], &first.dir.in_force);
    assert_eq!(keys(&bad), ["main/own", "red/r1", "red/r2", "blue/b2"], "the other file is applied");
    assert!(told(&bad)[0].starts_with("red.yaml:1:"), "{:?}", told(&bad));
    assert!(!bad.lost && bad.dir.in_force[1].text == first.dir.in_force[1].text);
    let mended = apply(&[("red.yaml", "keys: [ { id: r3, sha256: SHA1 } ]\n")], &bad.dir.in_force);
    assert_eq!(
        (keys(&mended), told(&mended)),
        (vec!["main/own".to_owned(), "red/r3".to_owned()], vec![]),
        "and one that is gone is revoked"
    );
}

#[test]
fn the_file_that_came_later_is_the_bad_one_whatever_its_name() {
    let first = apply(&[RED], &[]);
    let thief = ("a.yaml", "keys: [ { id: r1, sha256: SHA9 } ]\n");
    let applied = apply(&[thief, RED], &first.dir.in_force);
    assert!(told(&applied)[0].starts_with("a.yaml:1:15: there are two keys"), "{:?}", told(&applied));
    assert_eq!(keys(&applied), ["main/own", "red/r1", "red/r2"]);
    let at_a_start = apply(&[thief, RED], &[]);
    assert!(told(&at_a_start)[0].starts_with("red.yaml:"));
    // A key moves from one file to the other, in either order of their names.
    for (from, to) in [("a.yaml", "b.yaml"), ("b.yaml", "a.yaml")] {
        let (one, none) = ("keys: [ { id: k, sha256: SHA1 } ]\n", "keys: []\n");
        let first = apply(&[(from, one), (to, none)], &[]);
        let moved = apply(&[(from, none), (to, one)], &first.dir.in_force);
        assert_eq!((told(&moved), keys(&moved).len()), (vec![], 2));
    }
}

#[test]
fn what_is_not_valid_with_a_new_main_file_is_lost() {
    let before = [KeyFile { path: "red.yaml".into(), text: text("routes: [gone]\nkeys: [ { id: r, sha256: SHA1 } ]\n").into() }];
    let applied = apply(&[("red.yaml", &before[0].text)], &before);
    assert!(applied.lost && told(&applied)[0].starts_with("red.yaml:1:10: there is no route `gone`"), "{:?}", told(&applied));
}

#[test]
fn keys_that_expire_are_warned_of_with_their_place() {
    let applied = apply(&[("red.yaml", "keys:\n  - { id: r1, sha256: SHA1, expires: 2027-01-20T00:00:00Z }\n")], &[]);
    let all = told(&applied);
    assert!(all[0].starts_with("red.yaml:2:") && all[0].contains("the key `r1` expires on 2027-01-20"), "{all:?}");
    assert!(applied.errors().is_empty() && keys(&applied).len() == 2);
}

#[test]
fn a_file_may_have_users_whose_ids_no_other_user_of_the_team_has() {
    let red = ("red.yaml", "users: [ { id: u1, disabled: true } ]\nkeys: [ { id: r1, sha256: SHA1 } ]\n");
    let main = ("main.yaml", "users: [ { id: u2, routes: [a] }, { id: r1 } ]\n");
    let applied = apply(&[main, red, ("x.yaml", "users: [ { id: u1 }, { id: \"Zoë X\" }, { id: anonymous } ]\n")], &[]);
    assert_eq!(told(&applied), Vec::<String>::new());
    let users = applied.tenants.keys.iter().filter(|key| key.digest.is_none());
    let users: Vec<_> = users.map(|key| (&*key.id, &*key.name, key.disabled)).collect();
    let expected = [
        ("u2", "main/u2", false),
        ("r1", "main/r1", false),
        ("u1", "red/u1", true),
        ("u1", "x/u1", false),
        ("Zoë X", "x/Zoë X", false),
        ("anonymous", "x/anonymous", false),
        ("anonymous", "anonymous", false),
    ];
    assert_eq!(users, expected);
    // Limits are known by the name, so that no two have the same.
    let long = format!("users: [ {{ id: {} }} ]\n", "x".repeat(256));
    for (content, place, word) in [
        ("users: [ { id: u }, { id: u } ]\n", "1:27", "there are two users with the id `u`; the other one is in the team `x`"),
        ("keys: [ { id: red/u1, sha256: SHA7 } ]\n", "1:15", "known as `red/u1`, as are those of `u1` in the team `red`"),
        ("users: [ { id: \"\" } ]\n", "1:16", "the id of a user has 1 to 255 bytes"),
        ("users: [ { id: \"a\\nb\" } ]\n", "1:16", "the id of a user has 1 to 255 bytes"),
        (&*long, "1:16", "the id of a user has 1 to 255 bytes"),
    ] {
        let told = told(&apply(&[red, ("x.yaml", content)], &[]));
        assert!(matches!(&told[..], [one] if one.starts_with(&format!("x.yaml:{place}: ")) && one.contains(word)), "{content}: {told:?}");
    }
}
